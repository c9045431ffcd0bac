"""The metrics of voxhammer-v1, under the names of its authors' evaluation."""

from __future__ import annotations

from piva_bench.metrics.protocol import MetricInfo

_VIEWS = (
    "Edit against source on mid-grey at 512 pixels, in the eight views of the turntable nearest to theirs; mean over "
    "views"
)
_OUTSIDE = "over the pixels that the edit region, where it is seen before the source, does not cover"

# fmt: off
METRICS = (
    MetricInfo("psnr", "PSNR out", "dB", "higher", 1, "identity", headline=True, description=
        f"{_VIEWS}. {_OUTSIDE.capitalize()}; views without a difference are left out, as their script does."),
    MetricInfo("ssim", "SSIM out", "", "higher", 100, "identity", headline=True, description=
        f"{_VIEWS}. Mean of the map (Gaussian 11x11, sigma 1.5, zeros beyond the border) {_OUTSIDE}."),
    MetricInfo("lpips", "LPIPS out", "", "lower", 1000, "identity", headline=True, description=
        f"{_VIEWS}. LPIPS-alex's map, fed with values 0 to 1 where it expects -1 to 1, {_OUTSIDE}."),
    MetricInfo("dino_i", "DINO-I", "cosine", "higher", 100, "identity", headline=True, description=
        f"{_VIEWS}. Cosine of DINOv2-base's mean token, of whole pictures: the edit itself lowers it."),
    MetricInfo("chamfer", "Chamfer out", "", "lower", 1000, "identity", headline=True, description=
        "Mean distance to the nearest point, from edit to source and back, halved, of 20480 points on each surface "
        "without those inside the edit region, thinned to one a cell of 0.01. The source's largest edge is 1, its "
        "surface that of its file, the edit's the mesh that --keep-fields stores: what the field's voxels cost is in "
        "it, read it beside the unchanged source's."),
    MetricInfo("clip_t", "CLIP-T", "cosine", "higher", 100, "text", headline=True, description=
        "Cosine of the edit's views within 45 degrees of the front, on mid-grey, and the target prompt (which names no "
        "side), OpenAI's CLIP ViT-B/32. Mean over views."),
    MetricInfo("clip_t_source", "CLIP-T source", "cosine", "none", 100, "text", description=
        "The same of the unedited source: what it would be without any edit. Not one of the authors' columns."),
)
# fmt: on

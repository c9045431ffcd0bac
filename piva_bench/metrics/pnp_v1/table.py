"""The metrics of pnp-v1, under the names of the official calculator."""

from __future__ import annotations

from piva_bench.metrics.protocol import MetricInfo

_MASKED = (
    "Both pictures multiplied by the region's mask, then averaged over the whole frame, as the official "
    "calculator does: the other region counts as equal."
)
_JPEG = "The edit goes through JPEG at Pillow's default quality first, unless it comes out of a JPEG file."

# fmt: off
METRICS = (
    MetricInfo("structure_distance", "Structure", "", "lower", 1000, "identity", headline=True, description=
        "Mean squared difference of the self-similarities of DINO ViT-B/8's last keys (class token included), "
        f"whole picture, fed with values 0 to 255 as the official calculator does. {_JPEG}"),
    MetricInfo("psnr_unedit_part", "PSNR", "dB", "higher", 1, "identity", headline=True, description=
        f"Outside the edit mask. {_MASKED}"),
    MetricInfo("lpips_unedit_part", "LPIPS", "", "lower", 1000, "identity", headline=True, description=
        "LPIPS-squeeze outside the edit mask; the edit region is -1 in both pictures, averaged over the whole "
        "frame."),
    MetricInfo("mse_unedit_part", "MSE", "", "lower", 1e4, "identity", headline=True, description=
        f"Outside the edit mask, values in [0, 1]. {_MASKED}"),
    MetricInfo("ssim_unedit_part", "SSIM", "", "higher", 100, "identity", headline=True, description=
        f"Outside the edit mask (Gaussian 11x11, sigma 1.5; 5 pixels at each border left out). {_MASKED}"),
    MetricInfo("clip_similarity_target_image", "CLIP whole", "", "higher", 1, "text", headline=True, description=
        "CLIPScore 100 max(cos, 0) of the edit and the target prompt, CLIP ViT-L/14 of OpenAI."),
    MetricInfo("clip_similarity_target_image_edit_part", "CLIP edited", "", "higher", 1, "text", headline=True,
        description="CLIPScore of the edit with everything outside the edit mask black, and the target prompt."),
    MetricInfo("clip_similarity_source_image", "CLIP source", "", "none", 1, "text", description=
        "CLIPScore of the source and the source prompt: a property of the dataset."),
    MetricInfo("psnr", "PSNR all", "dB", "higher", 1, "identity", description="Whole picture."),
    MetricInfo("lpips", "LPIPS all", "", "lower", 1000, "identity", description="LPIPS-squeeze, whole picture."),
    MetricInfo("mse", "MSE all", "", "lower", 1e4, "identity", description="Whole picture, values in [0, 1]."),
    MetricInfo("ssim", "SSIM all", "", "higher", 100, "identity", description="Whole picture."),
    MetricInfo("psnr_edit_part", "PSNR in", "dB", "none", 1, "identity", description=
        f"Inside the edit mask. {_MASKED}"),
    MetricInfo("lpips_edit_part", "LPIPS in", "", "none", 1000, "identity", description=
        "LPIPS-squeeze inside the edit mask; everything else is -1 in both pictures."),
    MetricInfo("mse_edit_part", "MSE in", "", "none", 1e4, "identity", description=
        f"Inside the edit mask. {_MASKED}"),
    MetricInfo("ssim_edit_part", "SSIM in", "", "none", 100, "identity", description=
        f"Inside the edit mask. {_MASKED}"),
)
# fmt: on

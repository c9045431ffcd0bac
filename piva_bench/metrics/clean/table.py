"""The metrics of the protocol `clean`."""

from __future__ import annotations

from piva_bench.metrics.protocol import MetricInfo

TOWERS = {
    "vit-l14": "OpenAI's CLIP ViT-L/14",
    "vit-b32": "OpenAI's CLIP ViT-B/32",
    "vit-h14": "LAION's CLIP ViT-H/14",
}
"""CLIP towers by short name; the evaluator is ``openclip-<name>``."""


def column(metric: str, tower: str) -> str:
    """The key of a CLIP metric under one tower."""
    return f"{metric}_{tower.replace('-', '_')}"


def mark(tower: str) -> str:
    """What titles call a tower: its size, as in L14."""
    return tower.rpartition("-")[2].upper()


def _clip_metrics(tower: str, title: str) -> tuple[MetricInfo, ...]:
    first = tower == next(iter(TOWERS))
    return (
        MetricInfo(
            column("clip_target", tower), f"CLIP {mark(tower)}", "cos", "higher", 100, "text", headline=first,
            description=f"Cosine of the edit and the target prompt, {title}. Not cut off at 0.",
        ),
        MetricInfo(
            column("clip_directional", tower), f"CLIP dir. {mark(tower)}", "cos", "higher", 100, "text", headline=first,
            description="Cosine between the change of the picture's embedding and the change of the "
            f"prompt's, source to edit, of unit embeddings, {title}. Undefined where either does not change.",
        ),
    )  # fmt: skip


# fmt: off
METRICS = (
    *(metric for tower, title in TOWERS.items() for metric in _clip_metrics(tower, title)),
    MetricInfo("structure_distance", "Structure", "", "lower", 1000, "identity", headline=True, description=
        "Mean squared difference of the self-similarities of DINO ViT-B/8's last keys, whole picture, values "
        "in [0, 1], shrunk with antialiasing. Not pnp-v1's."),
    MetricInfo("lpips_alex_outside", "LPIPS-A out", "", "lower", 1000, "identity", headline=True, description=
        "LPIPS v0.1 (AlexNet) map of the untouched pictures, averaged over the pixels outside the edit mask."),
    MetricInfo("lpips_vgg_outside", "LPIPS-V out", "", "lower", 1000, "identity", description=
        "As LPIPS-A out, VGG-16."),
    MetricInfo("lpips_alex", "LPIPS-A", "", "lower", 1000, "identity", description=
        "LPIPS v0.1 (AlexNet), whole picture."),
    MetricInfo("lpips_vgg", "LPIPS-V", "", "lower", 1000, "identity", description=
        "LPIPS v0.1 (VGG-16), whole picture."),
    MetricInfo("psnr_outside", "PSNR out", "dB", "higher", 1, "identity", headline=True, description=
        "True mean over the pixels outside the edit mask; equal pictures get 58.92 dB, the rounding error of "
        "8-bit pictures."),
    MetricInfo("mse_outside", "MSE out", "", "lower", 1e4, "identity", description=
        "Mean over the pixels outside the edit mask, values in [0, 1]."),
    MetricInfo("ssim_outside", "SSIM out", "", "higher", 100, "identity", headline=True, description=
        "Mean of the SSIM map (Gaussian 11x11, sigma 1.5, per channel) over the pixels outside the edit mask."),
    MetricInfo("psnr", "PSNR", "dB", "higher", 1, "identity", description="Whole picture."),
    MetricInfo("psnr_inside", "PSNR in", "dB", "none", 1, "identity", description=
        "Inside the edit mask: how little was changed there."),
    MetricInfo("mse_inside", "MSE in", "", "none", 1e4, "identity", description="Inside the edit mask."),
    MetricInfo("ssim_inside", "SSIM in", "", "none", 100, "identity", description=
        "Mean of the SSIM map inside the edit mask."),
    MetricInfo("colour_drift", "Colour drift", "CIEDE2000", "lower", 1, "colour", headline=True, description=
        "Mean CIEDE2000 difference of edit and source outside the edit mask."),
    MetricInfo("saturation_change", "Sat. change", "C*ab", "none", 1, "colour", description=
        "Mean CIELAB chroma of the edit minus that of the source, whole picture."),
)
# fmt: on

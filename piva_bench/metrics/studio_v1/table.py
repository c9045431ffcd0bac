"""The metrics of studio-v1, described."""

from __future__ import annotations

from piva_bench.metrics.protocol import MetricInfo

_CLIP = (
    "Studio CLIP: open_clip model trained on studio captions, pictures area-resized to 64 px. "
    "Not comparable with any public CLIP."
)
_CAP = "At most 58.92 dB (rounding to 8 bits), which equal pictures get."

# fmt: off
METRICS: tuple[MetricInfo, ...] = (
    # Does the edit show what it should?
    MetricInfo("edit_accuracy", "Edit acc.", "share", "higher", 100, "oracle", headline=True, description=
        "Of the attributes that the studio classifier sees differ between source and counterfactual, "
        "the share on which it sees the counterfactual's value on the edit."),
    MetricInfo("clip_target", "CLIP", "cosine", "higher", 100, "text", headline=True, description=
        f"Cosine of the edited picture to the target prompt. {_CLIP}"),
    MetricInfo("clip_directional", "CLIP dir.", "cosine", "higher", 100, "text", description=
        "Cosine between the change of the picture's embedding and the change of the prompt's, source "
        f"to edit, of unit embeddings. Undefined where either does not change. {_CLIP}"),
    # Is it still the same picture?
    MetricInfo("attributes_kept", "Attr. kept", "share", "higher", 100, "oracle", headline=True, description=
        "Of the attributes that the studio classifier sees equal on source and counterfactual, the "
        "share it sees unchanged on the edit."),
    MetricInfo("stlpips", "ST-LPIPS", "", "lower", 1000, "identity", headline=True, description=
        "Shift-tolerant LPIPS (AlexNet, arXiv 2207.13686) between edit and source, whole picture. Not "
        "LPIPS."),
    MetricInfo("psnr_outside", "PSNR out", "dB", "higher", 1, "identity", headline=True, description=
        f"Edit against source, true mean over the pixels outside the edit mask. {_CAP}"),
    MetricInfo("ssim_outside", "SSIM out", "", "higher", 100, "identity", description=
        "Mean over the pixels outside the edit mask of the SSIM map of edit and source (Gaussian "
        "11x11, sigma 1.5, per RGB channel)."),
    MetricInfo("mse_outside", "MSE out", "", "lower", 1e4, "identity", description=
        "Mean squared difference of edit and source, values in [0, 1], over the pixels outside the "
        "edit mask."),
    MetricInfo("psnr", "PSNR", "dB", "higher", 1, "identity", description=
        f"Edit against source, whole picture. {_CAP}"),
    MetricInfo("psnr_inside", "PSNR in", "dB", "none", 1, "identity", description=
        f"Edit against source inside the edit mask: how little was changed there. {_CAP}"),
    MetricInfo("ssim_inside", "SSIM in", "", "none", 100, "identity", description=
        "Mean of the SSIM map of edit and source inside the edit mask."),
    MetricInfo("mse_inside", "MSE in", "", "none", 1e4, "identity", description=
        "Mean squared difference of edit and source, values in [0, 1], inside the edit mask."),
    # What became of the colours?
    MetricInfo("colour_drift", "Colour drift", "CIEDE2000", "lower", 1, "colour", headline=True, description=
        "Mean CIEDE2000 difference of edit and source outside the edit mask; about 1 is just "
        "noticeable."),
    MetricInfo("saturation_excess", "Sat. excess", "C*ab", "none", 1, "colour", headline=True, description=
        "Mean CIELAB chroma of the edit minus that of the counterfactual inside the edit mask; 0 is "
        "right, positive is over-saturated."),
    MetricInfo("saturation_change", "Sat. change", "C*ab", "none", 1, "colour", description=
        "Mean CIELAB chroma of the edit minus that of the source, whole picture; positive: stronger "
        "colours."),
    # How far is it from the true edit?
    MetricInfo("counterfactual_psnr", "PSNR cf", "dB", "higher", 1, "oracle", headline=True, description=
        f"Edit against the exact counterfactual, whole picture. {_CAP}"),
    MetricInfo("counterfactual_psnr_inside", "PSNR cf in", "dB", "higher", 1, "oracle", description=
        f"Edit against the exact counterfactual inside the edit mask. {_CAP}"),
    MetricInfo("counterfactual_psnr_outside", "PSNR cf out", "dB", "higher", 1, "oracle", description=
        f"Edit against the exact counterfactual outside the edit mask. {_CAP}"),
    MetricInfo("counterfactual_stlpips", "ST-LPIPS cf", "", "lower", 1000, "oracle", description=
        "Shift-tolerant LPIPS between edit and exact counterfactual, whole picture."),
    MetricInfo("attribute_agreement", "Attr. agree", "share", "higher", 100, "oracle", description=
        "Share of all attributes on which the studio classifier sees the same on edit and "
        "counterfactual."),
)
# fmt: on

"""The metrics of views-v1, described."""

from __future__ import annotations

from piva_bench.metrics.protocol import MetricInfo

_CLIP = "Studio CLIP, trained on studio captions; not comparable with any public CLIP."
_VIEWS = "Mean over all views of the turntable."
_SOME = "Mean over every third view of the turntable."
_CAP = "At most 58.92 dB (rounding to 8 bits), which equal pictures get."
_DEPTH = "as a share of the source's size, where both hit something."

# fmt: off
METRICS: tuple[MetricInfo, ...] = (
    # Does the edit show what it should, from all sides?
    MetricInfo("edit_accuracy", "Edit acc.", "share", "higher", 100, "oracle", headline=True, description=
        "Of the attributes that the studio classifier sees differ between source and counterfactual in at least "
        "half of the views, the share of views in which it sees the counterfactual's value on the edit."),
    MetricInfo("edit_accuracy_worst", "Edit acc. worst side", "share", "higher", 100, "oracle", description=
        "The same over the views of one side alone (front, side or back), of the side where it is least."),
    MetricInfo("clip_similarity", "CLIP", "cosine", "higher", 100, "text", headline=True, description=
        f"Cosine of the edit to the target prompt, which names the side as captions do. {_VIEWS} {_CLIP}"),
    MetricInfo("clip_similarity_source", "CLIP source", "cosine", "none", 100, "text", description=
        f"The same of the unedited source: what it would be without any edit. {_CLIP}"),
    MetricInfo("clip_directional", "CLIP dir.", "cosine", "higher", 100, "text", description=
        "Cosine between the change of a view's embedding and the change of the prompt's, source to edit, of unit "
        f"embeddings (Instruct-NeRF2NeRF, arXiv 2303.12789); views without change are left out. {_CLIP}"),
    # Is it still the same object?
    MetricInfo("attributes_kept", "Attr. kept", "share", "higher", 100, "oracle", headline=True, description=
        "Of the other attributes of the object, the share of views in which the classifier sees the "
        "counterfactual's value on the edit."),
    MetricInfo("source_stlpips", "ST-LPIPS", "", "lower", 1000, "identity", headline=True, description=
        f"Shift-tolerant LPIPS (AlexNet, arXiv 2207.13686) between edit and source. {_SOME} Not LPIPS."),
    MetricInfo("source_psnr", "PSNR", "dB", "higher", 1, "identity", description=
        f"Edit against source. {_VIEWS} {_CAP}"),
    MetricInfo("source_ssim", "SSIM", "", "higher", 100, "identity", description=
        f"Edit against source. {_VIEWS}"),
    MetricInfo("source_silhouette_iou", "Sil. IoU", "", "none", 100, "identity", description=
        "Intersection over union of the silhouettes of edit and source, all views pooled."),
    MetricInfo("source_depth_change", "Depth change", "", "none", 100, "identity", description=
        f"Mean absolute difference of the depths of edit and source, {_DEPTH}"),
    # Do the views show one object?
    MetricInfo("view_inconsistency", "View incons.", "", "lower", 100, "views", headline=True, description=
        "Mean absolute colour difference of points that two neighbouring views both see, by the edit's depth. "
        "Shine costs a little: read it beside the source's."),
    MetricInfo("view_inconsistency_source", "View incons. source", "", "none", 100, "views", description=
        "The same of the source's rendered views."),
    MetricInfo("direction_consistency", "Dir. consistency", "cosine", "higher", 100, "views", headline=True,
        description="Cosine of the changes of the embeddings of neighbouring views, source to edit "
        f"(Instruct-NeRF2NeRF, arXiv 2303.12789). {_CLIP}"),
    MetricInfo("front_confusion", "Janus cf", "share", "lower", 100, "oracle", description=
        "Share of the views from behind whose embedding is nearer to the counterfactual's front view than to its "
        "view from the same side: a front seen at the back. The studio's CLIP hardly tells sides apart: unedited "
        f"sources are not near 0 either, so read it beside `identity`. {_CLIP}"),
    MetricInfo("janus_index", "Janus", "share", "lower", 100, "views", description=
        "Share of the views from behind that are nearer to the front's prompt than to the back's. The studio's "
        "CLIP tells sides apart by words badly: read it beside the source's and the counterfactual's. "
        f"{_CLIP}"),
    MetricInfo("janus_index_source", "Janus source", "share", "none", 100, "views", description=
        f"The same of the source's views: how well this CLIP tells this object's back from its front. {_CLIP}"),
    MetricInfo("front_repetition", "Front repet.", "cosine", "none", 100, "views", description=
        f"Mean cosine of the views from behind with the frontmost one: no text needed. {_CLIP}"),
    MetricInfo("front_repetition_source", "Front repet. source", "cosine", "none", 100, "views", description=
        f"The same of the source's views. {_CLIP}"),
    # How far is it from the true edit?
    MetricInfo("reference_psnr", "PSNR cf", "dB", "higher", 1, "oracle", headline=True, description=
        f"Edit against the exact counterfactual. {_VIEWS} {_CAP}"),
    MetricInfo("reference_ssim", "SSIM cf", "", "higher", 100, "oracle", description=
        f"Edit against the exact counterfactual. {_VIEWS}"),
    MetricInfo("reference_stlpips", "ST-LPIPS cf", "", "lower", 1000, "oracle", description=
        f"Shift-tolerant LPIPS between edit and exact counterfactual. {_SOME}"),
    MetricInfo("reference_silhouette_iou", "Sil. IoU cf", "", "higher", 100, "oracle", headline=True, description=
        "Intersection over union of the silhouettes of edit and counterfactual, all views pooled."),
    MetricInfo("reference_depth_change", "Depth error cf", "", "lower", 100, "oracle", description=
        f"Mean absolute difference of the depths of edit and counterfactual, {_DEPTH}"),
)
# fmt: on

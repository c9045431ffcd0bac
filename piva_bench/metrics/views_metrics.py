"""The metrics of 3D edits, described. Protocols differ in their CLIP and in their perceptual distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from piva_bench.metrics.protocol import MetricInfo

_WORSE = "of each the worse of two backdrops that the edit has not seen"
_VIEWS = f"Mean over all views of the turntable, {_WORSE}."
_SOME = f"Mean over every sixth view of the turntable, {_WORSE}."
_CAP = "At most 58.92 dB (rounding to 8 bits), which equal pictures get."
_DEPTH = "as a share of the source's size, where both hit something."

Metrics = tuple[MetricInfo, ...]


@dataclass(frozen=True)
class Clip:
    """What a CLIP's metrics are called and what is to be said of them.

    Attributes:
        note: which CLIP it is.
        prompts: when the target prompt names the side.
        headlines: the names of those that compact tables show, without ``end``.
        end: ends their names.
        mark: ends their titles.
    """

    note: str
    prompts: str
    headlines: tuple[str, ...]
    end: str = ""
    mark: str = ""

    def named(self, *metrics: MetricInfo) -> Metrics:
        """The metrics as those of this CLIP."""
        return tuple(
            replace(
                metric,
                name=metric.name + self.end,
                title=metric.title + self.mark,
                description=f"{metric.description} {self.note}",
                headline=metric.name in self.headlines,
            )
            for metric in metrics
        )


@dataclass(frozen=True)
class Distance:
    """A perceptual distance: its name in keys, its title, what it is, and what else is to be said of it."""

    name: str
    title: str
    what: str
    note: str = ""
    headline: bool = False


# fmt: off
def text_metrics(clip: Clip) -> Metrics:
    """Does the edit show what its prompt says, from all sides?"""
    return clip.named(
        MetricInfo("clip_similarity", "CLIP", "cosine", "higher", 100, "text", description=
            f"Cosine of the edit to the target prompt, which names the side {clip.prompts}. Mean over all views of the "
            "turntable, in the scene's own place, which prompts may name."),
        MetricInfo("clip_similarity_source", "CLIP source", "cosine", "none", 100, "text", description=
            "The same of the unedited source: what it would be without any edit."),
        MetricInfo("clip_directional", "CLIP dir.", "cosine", "higher", 100, "text", description=
            "Cosine between the change of a view's embedding and the change of the prompt's, source to edit, of unit "
            f"embeddings (Instruct-NeRF2NeRF, arXiv 2303.12789); views without change are left out. {_VIEWS}"),
    )


def identity_metrics(distances: Sequence[Distance]) -> Metrics:
    """Is it still the same object?"""
    return (
        *(MetricInfo(f"source_{each.name}", each.title, "", "lower", 1000, "identity", headline=each.headline,
            description=f"{each.what} between edit and source. {_SOME} {each.note}".rstrip()) for each in distances),
        MetricInfo("source_psnr", "PSNR", "dB", "higher", 1, "identity", description=
            f"Edit against source. {_VIEWS} {_CAP}"),
        MetricInfo("source_ssim", "SSIM", "", "higher", 100, "identity", description=
            f"Edit against source. {_VIEWS}"),
        MetricInfo("source_silhouette_iou", "Sil. IoU", "", "none", 100, "identity", description=
            "Intersection over union of the silhouettes of edit and source, all views pooled."),
        MetricInfo("source_depth_change", "Depth change", "", "none", 100, "identity", description=
            f"Mean absolute difference of the depths of edit and source, {_DEPTH}"),
    )


INCONSISTENCY = (
    MetricInfo("view_inconsistency", "View incons. (own depth)", "", "lower", 100, "views", headline=True, description=
        "Mean absolute colour difference of points that two neighbouring views both see, by the edit's depth. Of the "
        "formulas in use under this name it is the one of the edit's own depth; others warp views by optical flow or "
        "the source's depth, further apart, and compare them by RMSE or LPIPS: their numbers are not these. Shine "
        "costs a little: read it beside the source's."),
    MetricInfo("view_inconsistency_source", "View incons. source (own depth)", "", "none", 100, "views", description=
        "The same of the source's rendered views."),
)


def views_metrics(clip: Clip) -> Metrics:
    """Do the views show one object, to a CLIP?"""
    return clip.named(
        MetricInfo("direction_consistency", "Dir. consistency (edit vectors)", "cosine", "higher", 100, "views",
            description="Cosine between the edit vectors of neighbouring views, E(edit) - E(source) here and there, "
            f"with unit embeddings E. {_VIEWS} Of the formulas in use under this name it is the one of edit vectors. "
            "Instruct-NeRF2NeRF's authors give neighbouring frames to the directional score (the cosine of the edit's "
            "step from view to view with the source's), others compare the frames' embeddings themselves: their "
            "numbers are not these."),
    )


def truth_metrics(distances: Sequence[Distance], *, headline: bool) -> Metrics:
    """How far is it from the true edit? ``headline``: whether compact tables show three of them."""
    return (
        MetricInfo("reference_psnr", "PSNR cf", "dB", "higher", 1, "oracle", headline=headline, description=
            f"Edit against the exact counterfactual. {_VIEWS} {_CAP}"),
        MetricInfo("reference_ssim", "SSIM cf", "", "higher", 100, "oracle", description=
            f"Edit against the exact counterfactual. {_VIEWS}"),
        *(MetricInfo(f"reference_{each.name}", f"{each.title} cf", "", "lower", 1000, "oracle", description=
            f"{each.what} between edit and exact counterfactual. {_SOME}") for each in distances),
        MetricInfo("reference_silhouette_iou", "Sil. IoU cf", "", "higher", 100, "oracle", headline=headline,
            description="Intersection over union of the silhouettes of edit and counterfactual, all views pooled."),
        MetricInfo("haze", "Haze", "share", "lower", 100, "oracle", headline=headline, description=
            "Mean opacity of the edit where neither source nor counterfactual has anything, a pixel round both left "
            "out; all views pooled: fog and floaters that an edit leaves in the air."),
        MetricInfo("reference_depth_change", "Depth error cf", "", "lower", 100, "oracle", description=
            f"Mean absolute difference of the depths of edit and counterfactual, {_DEPTH}"),
    )
# fmt: on

"""What an editing method is to the rest of the program: a card, bounded parameters, and ``edit``.

Nothing heavy is imported here, so that methods can be listed and described without loading torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from piva_bench.errors import UserError
from piva_bench.params import LatentParams, MethodParams

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.scene.cameras import Cameras
    from piva_bench.scene.field import RadianceField
    from piva_bench.scene.params import FieldEditParams
    from piva_bench.scene.views import PosedViews


@dataclass(frozen=True)
class Progress:
    """Where a batch is; told after every step.

    Attributes:
        index: of the step, from 0.
        steps: how many there will be; None where nobody knows.
        scalars: batch means of the step's scalars, over the samples that are well.
        latents: z [R, C, h, w] as it is now, where there is one: to look at, not to keep (it moves in place).
    """

    index: int
    steps: int | None
    scalars: Mapping[str, float] = field(default_factory=dict)
    latents: Tensor | None = None


OnStep = Callable[[Progress], None]
"""Called after every step."""


class Strength(BaseModel):
    """The parameter that says how strongly a method edits, and the values that its curve is drawn over."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameter: str
    values: tuple[float, ...] = Field(min_length=2)


class MethodCard(BaseModel):
    """Who a method is.

    ``version`` is part of every record's content key: raise it when a change to the method's code changes its
    pictures. Methods that read the edit mask say so, and so do supervised ones, because tables rank them apart.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    paper: str | None = Field(description="arXiv number, or None")
    summary: str
    kind: Literal["distillation", "sampling", "reference"]
    uses_mask: bool = False
    supervised: bool = Field(
        default=False, description="whether its model was trained on pairs of a picture and its edit"
    )
    needs_reference: bool = Field(default=False, description="edits only samples that have a counterfactual")
    strength: Strength | None = Field(
        default=None, description="the parameter a trade-off curve is swept over"
    )
    models: tuple[str, ...] = Field(
        default=(),
        description="aliases or folders of further models, which queries name (`Query.model`); their fingerprints are "
        "part of every record's key",
    )
    idea_code_license: str = Field(
        description="licence of the authors' code; ours is written from the equations"
    )
    version: str = "1"


@dataclass(frozen=True)
class EditTask:
    """One edit to make.

    Attributes:
        sample_id: name of the sample; noise is drawn from it, so it must be unique within a dataset.
        source: picture [3, H, W], values in [-1, 1].
        source_prompt: caption of the picture.
        target_prompt: caption of the wanted picture.
        instruction: the edit as an order ("make the cup red"); may be empty.
        blended_words: pairs of a source prompt's and a target prompt's word that the edit is about; may be empty.
        edit_type: the dataset's word for the kind of edit.
        mask: bool [H, W], True where the edit belongs; only given to methods whose card says ``uses_mask``.
        blend: bool [H, W], True where the edit's latents may differ from the source's after a step of a distillation;
            None for everywhere.
        reference: the true edited picture [3, H, W]; only given to methods of kind "reference".
        params: how its latents follow a rule's gradient; see ``EditMethod.kinds``.
    """

    sample_id: str
    source: Tensor
    source_prompt: str
    target_prompt: str
    instruction: str = ""
    blended_words: tuple[tuple[str, str], ...] = ()
    edit_type: str = ""
    mask: Tensor | None = None
    blend: Tensor | None = None
    reference: Tensor | None = None
    params: LatentParams = field(default_factory=LatentParams)


@dataclass(frozen=True)
class SceneTask:
    """One edit of a scene to make.

    Attributes:
        sample_id: name of the sample; see ``EditTask``.
        field: the source, a fitted radiance field. Not to be changed: edits of one object share it.
        cameras: N views that the edit may look at.
        backgrounds: what is behind the field in these views, [N, 3, H, W] or one for all [1, 3, H, W], in [0, 1].
        turntable: the views that the edit is judged by.
        source_prompt: caption of the scene.
        target_prompt: caption of the wanted scene.
        params: how the field follows.
        side_prompts: source and target prompt by the side that is seen (front, side, back), where there are any.
        reference: the true edit's views from ``turntable``; only given to methods of kind "reference".
        instruction: the edit as an order; may be empty.
    """

    sample_id: str
    field: RadianceField
    cameras: Cameras
    backgrounds: Tensor
    turntable: Cameras
    source_prompt: str
    target_prompt: str
    params: FieldEditParams
    side_prompts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    reference: PosedViews | None = None
    instruction: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the views an edit looks at."""
        return self.cameras.width, self.cameras.height


@dataclass(frozen=True)
class EditOutcome:
    """What became of one edit.

    Attributes:
        sample_id: the task's.
        image: edited picture [3, H, W] in [-1, 1], float32 on the CPU; None if the edit failed, or of a scene.
        reason: why it failed, in one line; None if it did not.
        unet_evaluations: UNet rows computed for this edit, those of adapter training included.
        seconds: the batch's wall time divided by its number of edits.
        trace: per step scalars of this edit, by name.
        training_evaluations: how many of ``unet_evaluations`` were computed forward and backward: adapter training,
            and gradients through the network.
        snapshots: the edit after fewer steps, by their number: what a run of so many steps would have given.
    """

    sample_id: str
    image: Tensor | None = None
    reason: str | None = None
    unet_evaluations: int = 0
    seconds: float = 0.0
    trace: dict[str, list[float]] = field(default_factory=dict)
    training_evaluations: int = 0
    snapshots: Mapping[int, EditOutcome] = field(default_factory=dict)


@dataclass(frozen=True)
class SceneOutcome(EditOutcome):
    """What became of one edit of a scene.

    Attributes:
        views: the edit from the task's turntable; None if it failed.
        field: the edited field on the CPU; None if it failed or the method edits no field.
    """

    views: PosedViews | None = None
    field: RadianceField | None = None


class EditMethod(ABC):
    """Base of every method. A subclass sets ``card`` and ``Params`` and implements ``edit``.

    Attributes:
        card: who it is.
        Params: the method's own parameters.
        kinds: what it edits ("pictures", "scenes"), and the parameters of how that comes about or follows a gradient:
            ``LatentParams`` and ``FieldEditParams`` of rules, ``FieldParams`` of what shows a fitted field, an empty
            ``MethodParams`` where there is nothing to say. A method with defaults of its own there names a subclass.
    """

    card: ClassVar[MethodCard]
    Params: ClassVar[type[MethodParams]] = MethodParams
    kinds: ClassVar[Mapping[str, type[MethodParams]]] = {"pictures": MethodParams}

    def __init__(self, params: MethodParams) -> None:
        self.params = params

    @classmethod
    def canonical(cls, params: MethodParams) -> tuple[str, MethodParams]:
        """The name and parameters under which an edit is stored.

        Overridden where one method's parameter value is another method (Piva without its regulariser is DDS),
        so that both share one record.
        """
        return cls.card.name, params

    @property
    def steps(self) -> int | None:
        """How many times ``on_step`` will be told; None where nobody knows."""
        return None

    @abstractmethod
    def edit(
        self, batch: Sequence[EditTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[EditOutcome]:
        """Edits a batch of pictures of equal size; outcomes come in the order of the tasks.

        Args:
            batch: the edits.
            denoiser: the model.
            seed: of all random numbers.
            on_step: told where the batch is.

        Raises:
            UserError: if the batch, the parameters and the model do not fit together. What goes wrong with
                one
                picture alone is that outcome's ``reason`` instead.
        """

    def edit_scenes(
        self, batch: Sequence[SceneTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[SceneOutcome]:
        """Edits a batch of scenes; outcomes come in the order of the tasks.

        Raises:
            UserError: the method edits pictures alone (``kinds``), or see ``edit``.
        """
        raise UserError(
            f"{self.card.name} edits pictures, not 3D scenes: choose a distillation method, identity or counterfactual."
        )

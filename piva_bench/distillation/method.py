"""Distillation methods are rules: a step in, a gradient out; the engine does the rest, for pictures and scenes alike.

Notation: z latents of the edit, z_src of the source; x_t(z) = a_t z + s_t eps with a_t = sqrt(abar_t) and
s_t = sqrt(1 - abar_t); eps^w(x, t, c) = eps(x, t, null) + w (eps(x, t, c) - eps(x, t, null)).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from piva_bench.distillation.params import AdapterSpec, DistillationParams
from piva_bench.method import EditMethod, EditOutcome, EditTask, OnStep, SceneOutcome, SceneTask
from piva_bench.params import LatentParams, MethodParams
from piva_bench.scene.params import FieldEditParams

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.distillation.state import Keeper
    from piva_bench.session.noisy import Noisy
    from piva_bench.session.step import Step


class DistillationMethod(EditMethod):
    """Base of the rules: a subclass says which gradient a step makes.

    Attributes:
        differentiates: whether the rule takes gradients through the network (``Noisy.leaf``).
        prefix: whether the edit after k steps of a longer run is the edit of a run of k, bit for bit. True unless a
            step asks how many steps there will be (a schedule over the run's length): then a rule says False.
    """

    Params = DistillationParams
    params: DistillationParams
    kinds: ClassVar[Mapping[str, type[MethodParams]]] = {"pictures": LatentParams, "scenes": FieldEditParams}
    differentiates: bool = False
    prefix: ClassVar[bool] = True

    @property
    def steps(self) -> int:
        """See ``EditMethod.steps``."""
        return self.params.steps

    @property
    def adapters(self) -> Sequence[AdapterSpec]:
        """Adapters to train; ``params`` must then be ``AdapterParams`` too."""
        return ()

    def timesteps(self, index: int) -> range:
        """The timesteps from which a step draws uniformly; a range of one is a schedule."""
        return self.params.timesteps(index)

    @abstractmethod
    def gradient(self, step: Step) -> Tensor:
        """The gradient on the latents [R, C, h, w] of one step.

        ``step.predict`` gives noise predictions, as often as the rule likes; whatever is put into ``step.scalars``
        goes into the trace.
        """

    def weight(self, noisy: Noisy) -> Tensor | float:
        """w(t) of noisy latents: 1, or [R, 1, 1, 1]."""
        return 1.0 if self.params.weighting == "uniform" else noisy.sigma.square()

    def edit(
        self,
        batch: Sequence[EditTask],
        denoiser: Denoiser,
        seed: int,
        on_step: OnStep | None = None,
        snapshots: Sequence[int] = (),
    ) -> list[EditOutcome]:
        """See ``EditMethod.edit``.

        Args:
            batch: the edits.
            denoiser: the model.
            seed: of all random numbers.
            on_step: told of every step.
            snapshots: numbers of steps below ``steps`` after which the edits are wanted, too (of ``prefix`` rules).
        """
        from piva_bench.distillation.picture_edit import distill

        return distill(self, batch, denoiser, seed, on_step, snapshots)

    def edit_scenes(
        self,
        batch: Sequence[SceneTask],
        denoiser: Denoiser,
        seed: int,
        on_step: OnStep | None = None,
        snapshots: Sequence[int] = (),
        unfinished: Keeper | None = None,
    ) -> list[SceneOutcome]:
        """See ``EditMethod.edit_scenes``, and ``edit`` for ``snapshots``.

        Args:
            batch: the edits.
            denoiser: the model.
            seed: of all random numbers.
            on_step: told of every step.
            snapshots: see ``edit``.
            unfinished: where the edits' state is kept now and then, and found after a kill.
        """
        from piva_bench.distillation.scene_edit import distill_scenes

        return distill_scenes(self, batch, denoiser, seed, on_step, snapshots, unfinished)

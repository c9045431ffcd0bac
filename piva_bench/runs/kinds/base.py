"""What is edited, pictures or scenes: chosen once, from the dataset, and asked for all that depends on it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from piva_bench.distillation.method import DistillationMethod
from piva_bench.method import EditOutcome, EditTask, SceneTask

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.method import EditMethod, OnStep
    from piva_bench.metrics.protocol import Pair, ViewsPair
    from piva_bench.runs.edit import Edit
    from piva_bench.runs.unfinished import Unfinished
    from piva_bench.runs.variants import Variant

Task = EditTask | SceneTask


@dataclass(frozen=True)
class Encoded:
    """An outcome as files.

    Attributes:
        png: the picture, or the sheet of views.
        sha: of the PNG.
        files: further files by their path below the output directory.
    """

    png: bytes
    sha: str
    files: dict[str, bytes] = field(default_factory=dict)


class Kind(ABC):
    """A kind of thing that is edited.

    Attributes:
        name: as datasets, protocols and ``EditMethod.kinds`` spell it.
        protocols: which score it, for messages.
        resumes: whether an edit by a rule takes so long that its state is kept on the way.
    """

    name: ClassVar[str]
    protocols: ClassVar[str]
    resumes: ClassVar[bool] = False

    @abstractmethod
    def task(
        self,
        sample: Sample,
        variant: Variant,
        resolution: int,
        device: torch.device | str = "cpu",
        *,
        trial: bool = False,
    ) -> Task:
        """What a method gets to see of a sample: the mask and the counterfactual only if its card claims them.

        Args:
            sample: what to edit.
            variant: method and setting.
            resolution: side in pixels.
            device: where to make what takes long.
            trial: whether it is for its cost alone: then nothing that takes long is made or kept for it.

        Raises:
            DataError: a file of the sample is missing or torn.
        """

    @abstractmethod
    def call(
        self, method: EditMethod, tasks: Sequence[Task], denoiser: Denoiser, seed: int, **more: Any
    ) -> Sequence[EditOutcome]:
        """The method's answer to a batch."""

    @abstractmethod
    def fault(self, outcome: EditOutcome, resolution: int) -> str | None:
        """Why an outcome is no result; None if it is one."""

    @abstractmethod
    def encode(self, outcome: EditOutcome, key: str, keep_field: bool) -> Encoded:
        """A result as files.

        Args:
            outcome: without a fault.
            key: of the edit.
            keep_field: whether to keep what the views were taken of, where there is such a thing.
        """

    @abstractmethod
    def pair(self, sample: Sample, edit: Edit) -> Pair | ViewsPair:
        """What a protocol of this kind scores.

        Raises:
            DataError: a picture of the sample or the edit cannot be read.
        """

    def timed_edit(
        self,
        method: EditMethod,
        tasks: Sequence[Task],
        denoiser: Denoiser,
        seed: int,
        on_step: OnStep | None = None,
        snapshots: Sequence[int] = (),
        unfinished: Unfinished | None = None,
    ) -> tuple[list[EditOutcome], float]:
        """Edits a batch; outcomes and seconds. One clock for all methods, read when the device has finished.

        Args:
            method: with its parameters.
            tasks: the batch.
            denoiser: the model.
            seed: of all random numbers.
            on_step: told of every step.
            snapshots: numbers of steps after which the edits are wanted, too.
            unfinished: keeps the state of what is on its way, where kind and method can go on from one.
        """
        start = time.perf_counter()
        # Only rules that say so can be seen on their way.
        more: dict[str, Any] = {"snapshots": snapshots} if snapshots else {}
        if unfinished is not None and self.resumes and isinstance(method, DistillationMethod):
            more["unfinished"] = unfinished
        outcomes = list(self.call(method, tasks, denoiser, seed, on_step=on_step, **more)) if tasks else []
        if denoiser.device.type == "cuda":
            torch.cuda.synchronize(denoiser.device)
        earlier = unfinished.earlier if "unfinished" in more and unfinished is not None else 0.0
        return outcomes, time.perf_counter() - start + earlier

"""What every dataset offers, and the check that says what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from piva_bench.data.sample import Sample, UnreadableSample
from piva_bench.errors import DataError


class DatasetCard(BaseModel):
    """What a dataset is, where it comes from and under which terms: the contents of its ``dataset.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="short name of this very collection, for tables")
    title: str = Field(min_length=1)
    license: str = Field(min_length=1, description="SPDX identifier, or in words what is known")
    source: str = Field(min_length=1, description="where it comes from: an address, or how it was made")
    description: str
    citation: str = ""
    resolution: int = Field(gt=0, description="side of the square pictures, in pixels")
    has_reference: bool = Field(default=False, description="every sample has its counterfactual picture")
    samples: int | None = Field(default=None, gt=0, description="how many samples a whole copy holds")
    revision: str | None = Field(default=None, description="content fingerprint of the published copy")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a dataset: with one sample, or (sample_id None) with the whole."""

    sample_id: str | None
    message: str


@runtime_checkable
class Dataset(Protocol):
    """An ordered collection of edit tasks with a content fingerprint."""

    @property
    def name(self) -> str:
        """The name it was asked for by, for instance "pie"."""

    @property
    def revision(self) -> str:
        """Content fingerprint, 16 hexadecimal digits: changes when any prompt, mask or picture does."""

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels."""

    @property
    def card(self) -> DatasetCard:
        """Origin, terms and size."""

    @property
    def samples(self) -> Sequence[Sample]:
        """All edit tasks, in the dataset's own order."""


def verify(dataset: Dataset, on_sample: Callable[[int], None] = lambda index: None) -> list[Problem]:
    """Load every picture and mask of a dataset and say what is wrong, worst news (whole dataset) first.

    What several samples share, such as a scene, is one problem.

    Args:
        dataset: what to check.
        on_sample: told how many samples were done before, after each.
    """
    problems: list[Problem] = []
    card = dataset.card
    if card.samples is not None and len(dataset.samples) != card.samples:
        problems.append(Problem(None, f"holds {len(dataset.samples)} samples, its card says {card.samples}"))
    if card.revision is not None and dataset.revision != card.revision:
        problems.append(Problem(None, f"content is revision {dataset.revision}, its card {card.revision}"))
    # A loader that kept going over unreadable entries says which ones.
    problems += getattr(dataset, "problems", ())
    said = {problem.message for problem in problems}
    # Samples of one source are looked at together: it is read once then.
    places = {sample.source_path: place for place, sample in reversed([*enumerate(dataset.samples)])}
    for index, sample in enumerate(sorted(dataset.samples, key=lambda sample: places[sample.source_path])):
        for message in _sample_faults(sample):
            # What is wrong with an object is wrong with all its edits, and said once.
            if message not in said:
                problems.append(Problem(sample.id, message))
                said.add(message)
        on_sample(index)
    return problems


def _sample_faults(sample: Sample) -> list[str]:
    if isinstance(sample, UnreadableSample):
        return [sample.fault]
    faults = []
    for load in sample.parts():
        try:
            load()
        except DataError as error:
            faults.append(str(error))
    if sample.source_prompt.split() == sample.target_prompt.split():
        faults.append(f"sample {sample.id!r}: source and target prompt are the same: nothing to edit")
    return faults

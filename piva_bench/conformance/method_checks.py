"""Checks of a method, on a tiny random model: what the house promises its users of every one.

Each check is a function of a ``Bench`` that returns nothing or raises ``AssertionError`` with a line that says what is
wrong. A check that does not concern a method raises ``NotForThisMethod``.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from piva_bench.conformance.tiny_model import make_tasks, make_tiny_ip2p
from piva_bench.diffusion.checkpoint import quiet
from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.load import load_denoiser
from piva_bench.distillation.method import DistillationMethod
from piva_bench.method import EditMethod, EditOutcome, EditTask
from piva_bench.params import LatentParams, MethodParams, faults, tunables
from piva_bench.profiles import INSTRUCTIONS

STEPS = 4
TOLERANCE = 1e-3
"""On pictures in [-1, 1], an eighth of an 8-bit level: sums in batches of other sizes are ordered otherwise."""


class NotForThisMethod(Exception):
    """A check that says nothing about a method; why, in a few words."""


class Advised(Exception):
    """What a method would do better to have, though it keeps to its contract without."""


@dataclass
class Bench:
    """A method on the tiny model."""

    cls: type[EditMethod]
    denoiser: Denoiser

    def method(self, **changes: Any) -> EditMethod:
        """The method at few steps."""
        known = self.cls.Params.model_fields
        few = {"steps": STEPS, "n_max": STEPS - 1} if "steps" in known else {}
        return self.cls(self.cls.Params(**{n: v for n, v in {**few, **changes}.items() if n in known}))

    def tasks(self, count: int) -> list[EditTask]:
        """Edits with all that the method's card asks for."""
        follow = self.cls.kinds.get("pictures", MethodParams)
        params = follow() if issubclass(follow, LatentParams) else LatentParams()
        tasks = [dataclasses.replace(task, params=params) for task in make_tasks(count)]
        mask = torch.zeros(32, 32, dtype=torch.bool)
        mask[8:24, 8:24] = True
        words = (("red", "blue"),)
        full = [
            dataclasses.replace(t, instruction="make it blue", blended_words=words, edit_type="6")
            for t in tasks
        ]
        if self.cls.card.uses_mask:
            full = [dataclasses.replace(task, mask=mask) for task in full]
        if self.cls.card.kind == "reference":
            full = [dataclasses.replace(task, reference=-task.source) for task in full]
        return full

    def edit(self, tasks: Sequence[EditTask], **changes: Any) -> list[EditOutcome]:
        """Outcomes of the method at few steps."""
        return self.method(**changes).edit(tasks, self.denoiser, 0)


def declares_itself(bench: Bench) -> None:
    """The card is complete, and every parameter has a source, a description and bounds."""
    cls = bench.cls
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    assert not missing, f"it has no {' and no '.join(missing)}"
    wrong = [fault for params in (cls.Params, *cls.kinds.values()) for fault in faults(params)]
    assert not wrong, f"parameter {wrong[0]}" if wrong else ""
    for name in ("summary", "title", "idea_code_license"):
        assert getattr(cls.card, name).strip(), f"the card has no {name}"
    strength = cls.card.strength
    if strength is not None:
        assert strength.parameter in cls.Params.model_fields, f"strength {strength.parameter} is no parameter"
        for value in strength.values:
            cls.Params(**{strength.parameter: value})
    for params in (cls.Params, *cls.kinds.values()):
        for name, values in tunables(params).items():
            for value in values:
                params(**{name: value})


def has_a_strength(bench: Bench) -> None:
    """Its card names the parameter that says how strongly it edits, and the values of its curve."""
    if bench.cls.card.kind == "reference":
        raise NotForThisMethod("a reference row edits nothing")
    if bench.cls.card.strength is None:
        raise Advised(
            "without strength=Strength(parameter=..., values=...) it has no curve, is compared at one strength alone, "
            "and `piva-bench tune` finds less to tune"
        )


def edits_every_picture(bench: Bench) -> None:
    """An outcome per task, in order, each a finite picture in [-1, 1] of the source's size, or a reason."""
    tasks = bench.tasks(3)
    outcomes = bench.edit(tasks)
    assert [o.sample_id for o in outcomes] == [t.sample_id for t in tasks], (
        "outcomes are not in the tasks' order"
    )
    for task, outcome in zip(tasks, outcomes, strict=True):
        assert outcome.image is not None, f"a picture could not be edited: {outcome.reason}"
        assert outcome.image.shape == task.source.shape, (
            f"a picture has the shape {tuple(outcome.image.shape)}"
        )
        assert outcome.image.is_floating_point(), "a picture does not hold floating-point values"
        assert bool(outcome.image.isfinite().all()), "a picture is not finite"
        assert float(outcome.image.abs().max()) <= 1 + TOLERANCE, "a picture's values leave [-1, 1]"
    assert bench.edit([]) == [], "an empty batch is no work"


def is_the_same_twice(bench: Bench) -> None:
    """The same edit twice is the same, bit for bit; another sample's numbers are others."""
    tasks = bench.tasks(2)
    for one, other in zip(bench.edit(tasks), bench.edit(tasks), strict=True):
        assert _equal(one, other), "the same edit twice differs: random numbers must come from session.random"


def does_not_see_the_batch(bench: Bench) -> None:
    """A picture's edit does not depend on what it is computed with, nor on the order."""
    tasks = bench.tasks(4)
    together = {outcome.sample_id: outcome for outcome in bench.edit(tasks)}
    for group in ([tasks[2], tasks[0]], [tasks[3]], [tasks[1]]):
        for outcome in bench.edit(group):
            difference = _difference(outcome, together[outcome.sample_id])
            assert difference < TOLERANCE, f"a picture depends on the rest of its batch (by {difference:.2g})"


def keeps_a_bad_picture_to_itself(bench: Bench) -> None:
    """A picture of NaN has a reason, and the others are as without it."""
    tasks = bench.tasks(3)
    broken = [
        tasks[0],
        dataclasses.replace(tasks[1], source=torch.full_like(tasks[1].source, torch.nan)),
        tasks[2],
    ]
    clean, mixed = bench.edit(tasks), bench.edit(broken)
    for row in (0, 2):
        assert mixed[row].image is not None, "a picture of NaN makes its neighbours fail"
        assert _difference(mixed[row], clean[row]) < TOLERANCE, "a picture of NaN changes its neighbours"
    if bench.cls.card.kind != "reference":
        assert mixed[1].image is None, "a picture of NaN was edited into something"
        assert mixed[1].reason, "a picture of NaN has no reason"


def counts_what_it_costs(bench: Bench) -> None:
    """The evaluations that are reported are those that the networks computed."""
    rows, tasks = [0], bench.tasks(3)
    networks = [model.network for model in (bench.denoiser, *bench.denoiser.beside.values())]
    hooks = [
        network.register_forward_pre_hook(
            lambda module, inputs: rows.__setitem__(0, rows[0] + len(inputs[0]))
        )
        for network in networks
    ]
    try:
        outcomes = bench.edit(tasks)
    finally:
        for hook in hooks:
            hook.remove()
    for outcome in outcomes:
        assert outcome.unet_evaluations == rows[0] / len(tasks), (
            f"{outcome.unet_evaluations} evaluations are reported, {rows[0] / len(tasks):g} were made"
        )


def is_a_prefix_of_itself(bench: Bench) -> None:
    """The edit after two steps of a longer run is the edit of a run of two, bit for bit."""
    method, tasks = bench.method(), bench.tasks(2)
    if not isinstance(method, DistillationMethod) or not method.prefix:
        raise NotForThisMethod("it does not say that shorter runs are prefixes of longer ones")
    on_the_way = [outcome.snapshots[2] for outcome in method.edit(tasks, bench.denoiser, 0, snapshots=(2,))]
    for one, other in zip(on_the_way, bench.edit(tasks, steps=2), strict=True):
        assert _equal(one, other), (
            "two steps of four are not a run of two: set prefix = False, or do not read steps"
        )
        assert one.trace == other.trace, "the trace of two steps of four is not that of a run of two"
        assert one.unet_evaluations == other.unet_evaluations, (
            "two steps of four cost otherwise than a run of two"
        )


def leaves_nothing_behind(bench: Bench) -> None:
    """What comes after it is as before it: the model, and torch's own settings."""
    from piva_bench.diffusion.condition import Condition

    def network() -> torch.Tensor:
        torch.manual_seed(0)
        x, text = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 24)
        with torch.no_grad():
            return bench.denoiser.predict_noise(x, torch.tensor([5, 700]), Condition(text))

    def settings() -> tuple[Any, ...]:
        modules = list(bench.denoiser.network.modules())
        return (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules),
            [type(module.processor) for module in modules if hasattr(module, "processor")],
        )

    before, was = network(), settings()
    bench.edit(bench.tasks(2))
    assert settings() == was, "it leaves hooks, attention processors or torch's settings changed"
    assert torch.equal(network(), before), "it leaves the network changed"


CHECKS: tuple[Callable[[Bench], None], ...] = (
    declares_itself,
    has_a_strength,
    edits_every_picture,
    is_the_same_twice,
    does_not_see_the_batch,
    keeps_a_bad_picture_to_itself,
    counts_what_it_costs,
    is_a_prefix_of_itself,
    leaves_nothing_behind,
)


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: its name.
        says: what it checks, in a sentence.
        fault: what is wrong; None if nothing is.
        skipped: why it does not concern the method.
        advice: what the method would do better to have; no fault.
        error: what the method raised, where it did.
    """

    check: str
    says: str
    fault: str | None = None
    skipped: str | None = None
    advice: str | None = None
    error: Exception | None = None


def check_method(cls: type[EditMethod], denoiser: Denoiser) -> Iterator[Finding]:
    """Runs all checks on a method; tiny models stand for those that its card names."""
    _put_models_beside(cls, denoiser)
    for check in CHECKS:
        name, says = check.__name__, " ".join((check.__doc__ or "").split())
        try:
            if "pictures" not in cls.kinds and check not in (declares_itself, has_a_strength):
                raise NotForThisMethod(f"it edits {' and '.join(cls.kinds)} alone")
            check(Bench(cls, denoiser))
            yield Finding(name, says)
        except NotForThisMethod as why:
            yield Finding(name, says, skipped=str(why))
        except Advised as advice:
            yield Finding(name, says, advice=str(advice))
        except AssertionError as fault:
            yield Finding(name, says, fault=str(fault))
        except Exception as error:  # somebody else's code
            yield Finding(name, says, fault=f"{type(error).__name__}: {error}", error=error)


def _put_models_beside(cls: type[EditMethod], denoiser: Denoiser) -> None:
    for name in cls.card.models:
        if name in denoiser.beside:
            continue
        with tempfile.TemporaryDirectory() as folder, quiet():
            instructed = name == INSTRUCTIONS
            path = make_tiny_ip2p(denoiser.path, Path(folder) / "model") if instructed else denoiser.path
            denoiser.put_beside(name, load_denoiser(path, denoiser.device, denoiser.dtype))


def _equal(one: EditOutcome, other: EditOutcome) -> bool:
    if one.image is None or other.image is None:
        return one.image is other.image and one.reason == other.reason
    return torch.equal(one.image, other.image)


def _difference(one: EditOutcome, other: EditOutcome) -> float:
    if one.image is None or other.image is None:
        return 0.0 if one.reason == other.reason else float("inf")
    return float((one.image - other.image).abs().max())

"""Choosing a method's defaults on the validation sets: what is tried, on how many samples, and by what it is judged.

Successive halving: every setting edits a few samples, the better half of them twice as many, and so on up to the whole
set. Trials are ordinary edits in an ordinary run folder, so a setting that goes on keeps what it has, a killed tune
goes on, and a second one finds all of it and chooses the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from piva_bench.data import validation
from piva_bench.errors import UserError
from piva_bench.params import tunables
from piva_bench.registry import METHODS, PROTOCOLS
from piva_bench.runs.plan import make_units
from piva_bench.runs.variants import Variant, declared_defaults, known_parameters, resolve_variants

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.profiles import Profile
    from piva_bench.runs.request import Prepared
    from piva_bench.runs.store import Store

Floats = NDArray[np.float64]

BUDGET = {"pictures": 160_000, "scenes": 80_000}
"""UNet evaluations: at most ten minutes of two cores for a method on the 60 samples of ``pie_val``; on
``objaverse_val``, where rendering costs more than the network, ten to twenty-five. At the reference runs' seconds."""
TRAINED = 2
"""What a backward pass costs beside its forward pass, in evaluations."""
HALVINGS = 3
"""The first round is on an eighth of the samples."""
FLOOR = 0.5
"""Edit accuracy below which a setting is no editor, however near it stays to the truth."""
DISTANCE, ACCURACY = ("counterfactual_stlpips", "reference_stlpips"), "edit_accuracy"
"""Metrics of the criterion: the distance to the exact counterfactual as picture and scene protocols call it."""
CRITERION = (
    f"least mean ST-LPIPS to the exact counterfactual among settings with an edit accuracy of at least {FLOOR:.0%}; "
    "if none has that, the highest edit accuracy, then the distance. A failed edit counts as the unchanged source"
)


def check_dataset(name: str) -> None:
    """Refuses what is not for choosing on.

    Raises:
        UserError: in one line.
    """
    if name not in (validation.PIE, validation.SCENES):
        raise UserError(
            f"tune does not look at {name}: results are reported on test sets, and a setting that was chosen on one "
            f"has seen the answers. Give --dataset {validation.PIE} or {validation.SCENES}."
        )


def distance_of(protocol: str) -> str:
    """The protocol's name for the distance to the counterfactual.

    Raises:
        UserError: it measures none, or no edit accuracy.
    """
    known = PROTOCOLS.load(protocol).descriptors
    found = [name for name in DISTANCE if name in known]
    if not found or ACCURACY not in known:
        raise UserError(
            f"{protocol} does not measure the distance to the true edit, which tune judges by: use the embedded "
            "profile."
        )
    return found[0]


@dataclass(frozen=True)
class Candidate:
    """A setting to try.

    Attributes:
        values: of the searched parameters.
        variant: the setting.
        given: all parameters that make it.
    """

    values: dict[str, Any]
    variant: Variant
    given: dict[str, Any]

    @property
    def label(self) -> str:
        """Its values in words."""
        return ", ".join(f"{name}={value}" for name, value in self.values.items())


def search_space(method: str, given: Mapping[str, Sequence[Any]], kind: str) -> dict[str, tuple[Any, ...]]:
    """The values to try by parameter: the method's strength, what is declared with ``tune``, and what the user gives.

    Args:
        method: name or ``file.py:Class``.
        given: the user's values by parameter; several replace the declared ones, one is not searched.
        kind: what is edited.

    Raises:
        UserError: nothing to search.
    """
    cls = METHODS.load(method)
    space: dict[str, tuple[Any, ...]] = {}
    if (strength := cls.card.strength) is not None:
        space[strength.parameter] = strength.values
    for params in (cls.Params, cls.kinds.get(kind)):
        space = (tunables(params) if params is not None else {}) | space
    # The strength first, the rest as declared.
    first = [strength.parameter] if strength is not None else []
    space = {name: space[name] for name in dict.fromkeys([*first, *space])}
    space |= {name: tuple(values) for name, values in given.items() if name in space or len(values) > 1}
    space = {name: values for name, values in space.items() if len(given.get(name, values)) > 1}
    if not space:
        raise UserError(
            f"{method} has nothing to tune: its card names no strength, and no parameter says tune=(...). "
            "Give --param NAME=V1,V2."
        )
    return space


def candidates(
    method: str,
    space: Mapping[str, Sequence[Any]],
    fixed: Mapping[str, Any],
    profile: Profile,
    kind: str,
    seed: int,
) -> list[Candidate]:
    """The declared default, then every combination in an order drawn by the seed; each setting once.

    The default is the one in the code: what an earlier tune has found is forgotten, so that it makes no difference.

    Raises:
        UserError: a parameter or value that the method has not.
    """
    for name in [*space, *fixed]:
        # One that the method has not is told by this.
        if name not in known_parameters(METHODS.load(method), kind):
            resolve_variants([method], {name: None}, profile, kind)
    declared = declared_defaults(METHODS.load(method), profile, kind)
    grid = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
    order = np.random.default_rng([seed, len(grid)]).permutation(len(grid))
    found: dict[str, Candidate] = {}
    for values in [{name: declared[name] for name in space}, *(grid[place] for place in order)]:
        given = {**declared, **fixed, **values}
        (variant,) = resolve_variants([method], given, profile, kind)
        found.setdefault(variant.key, Candidate(values, variant, given))
    return list(found.values())


def sizes(samples: int) -> list[int]:
    """The samples of each round, from an eighth to all."""
    return sorted({math.ceil(samples / 2**k) for k in range(HALVINGS + 1)})


def counts(settings: int, rounds: int) -> list[int]:
    """The settings of each round: half of those before, and the default, which is always one of them."""
    found = [settings]
    for k in range(1, rounds):
        found.append(min(found[-1], math.ceil(settings / 2**k) + 1))
    return found


def edits(settings: int, samples: int) -> int:
    """Edits that a tune makes at most."""
    rounds = sizes(samples)
    new = [after - before for before, after in zip([0, *rounds], rounds, strict=False)]
    return sum(here * more for here, more in zip(counts(settings, len(rounds)), new, strict=True))


def affordable(budget: float, cost: float, settings: int, samples: int) -> int:
    """How many settings the budget has room for, two at least.

    Args:
        budget: UNet evaluations.
        cost: of an edit.
        settings: there are.
        samples: of the set.
    """
    found = settings
    while found > 2 and edits(found, samples) * cost > budget:
        found -= 1
    return found


@dataclass(frozen=True, eq=False)
class Trial:
    """What a setting did.

    Attributes:
        candidate: the setting.
        distance: [samples] to the counterfactual; of a failed edit that of the unchanged source.
        accuracy: [samples]; NaN where it is undefined, 0 of a failed edit.
        failed: how many edits failed.
        evaluations: UNet evaluations of all its edits, backward passes included.
        seconds: of its edits.
        fingerprint: of the protocol that scored them.
    """

    candidate: Candidate
    distance: Floats
    accuracy: Floats
    failed: int
    evaluations: int
    seconds: float
    fingerprint: str

    @property
    def rank(self) -> tuple[float, float]:
        """Less is better; see ``CRITERION``."""
        accuracy = float(np.nanmean(self.accuracy)) if not np.isnan(self.accuracy).all() else 0.0
        return max(0.0, FLOOR - accuracy), float(self.distance.mean())


def survivors(trials: Sequence[Trial], keep: int) -> list[Candidate]:
    """The default, which is the first, and the best others, so that there are ``keep`` at most; in their order."""
    best = sorted(range(len(trials)), key=lambda place: trials[place].rank)[: keep - 1]
    return [trials[place].candidate for place in sorted({0, *best})]


def chosen(trials: Sequence[Trial]) -> Trial:
    """The best; of equal ones the first, and so the default before any other."""
    return min(trials, key=lambda trial: trial.rank)


def measure(
    candidate: Candidate,
    prepared: Prepared,
    store: Store,
    samples: Sequence[Sample],
    seed: int,
    source: Trial | None,
) -> Trial:
    """A setting's trial from its stored edits of some samples.

    Args:
        candidate: the setting.
        prepared: a plan that held it, and has been run.
        store: its folder.
        samples: which.
        seed: of the edits.
        source: the unchanged source's trial of as many samples or more, for edits that failed; None for itself.

    Raises:
        UserError: an edit has no scores, for a file of its sample is bad.
    """
    protocol = prepared.profile.protocol
    name, rows, failed, evaluations, seconds = distance_of(protocol), list[tuple[float, float]](), 0, 0, 0.0
    fingerprint = ""
    for place, unit in enumerate(make_units(prepared.setup, [candidate.variant], samples, [seed])):
        record = store.record(unit.key)
        assert record is not None, "the plan has been run"
        evaluations += record.unet_evaluations + TRAINED * record.training_evaluations
        seconds += record.seconds
        scores = store.load_scores(protocol, unit.key)
        if record.status == "failed":
            if source is None:
                raise UserError(f"{unit.sample.id} cannot be read: {record.reason}")
            failed += 1
            rows.append((source.distance[place], 0.0))
        elif scores is None or (away := scores.values[name]) is None:
            raise UserError(f"{unit.sample.id} has no distance to a true edit: mend the sample's files.")
        else:
            accuracy = scores.values[ACCURACY]
            rows.append((away, math.nan if accuracy is None else accuracy))
            fingerprint = scores.fingerprint
    distance, accuracies = np.array(rows, dtype=np.float64).T
    return Trial(candidate, distance, accuracies, failed, evaluations, seconds, fingerprint)

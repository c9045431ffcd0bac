"""What a tune tries, on how much, and what it prefers."""

import json
import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from piva_bench import paths, tuned
from piva_bench.errors import DataError, ModelError, UserError
from piva_bench.profiles import get_profile
from piva_bench.registry import METHODS
from piva_bench.runs import tuning
from piva_bench.runs.tuning import Candidate, Trial
from piva_bench.runs.variants import resolve_variants

EMBEDDED = get_profile("embedded")


def trial(distance, accuracy, number=0, failed=0):
    here = Candidate({"number": number}, None, {})
    return Trial(here, np.array(distance, float), np.array(accuracy, float), failed, 0, 0.0, "")


def test_the_test_sets_are_refused_with_the_cure():
    for name in ("pie", "objaverse", "captures"):
        with pytest.raises(UserError, match=rf"does not look at {name}: .* Give --dataset pie_val or"):
            tuning.check_dataset(name)
    for name in ("pie_val", "objaverse_val"):
        tuning.check_dataset(name)


@given(st.integers(1, 70), st.integers(2, 70))
def test_rounds_grow_to_the_whole_set_and_shrink_to_a_few(samples, settings):
    rounds = tuning.sizes(samples)
    here = tuning.counts(settings, len(rounds))
    assert rounds[-1] == samples
    assert all(small < large <= 2 * small for small, large in pairwise(rounds))
    assert here[0] == settings
    assert all(2 <= later <= earlier for earlier, later in pairwise(here))
    # What is made, counted one by one: every setting of a round edits what it has not edited yet.
    made = {
        (setting, sample)
        for n, m in zip(here, rounds, strict=True)
        for setting, sample in product(range(n), range(m))
    }
    assert tuning.edits(settings, samples) == len(made)


@given(st.integers(2, 60), st.integers(1, 100), st.floats(1, 1e7), st.floats(1, 2000))
def test_as_many_settings_as_the_budget_has_room_for(settings, samples, budget, cost):
    found = tuning.affordable(budget, cost, settings, samples)
    assert 2 <= found <= settings
    assert found == 2 or tuning.edits(found, samples) * cost <= budget
    assert found == settings or tuning.edits(found + 1, samples) * cost > budget


numbers = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12)


@given(numbers, st.integers(2, 6))
def test_the_best_go_on_and_the_default_with_them(places, keep):
    trials = [trial([distance], [accuracy], number) for number, (distance, accuracy) in enumerate(places)]
    kept = [candidate.values["number"] for candidate in tuning.survivors(trials, keep)]
    assert kept == sorted(set(kept))
    assert kept[0] == 0
    assert len(kept) in {min(keep, len(trials)), min(keep - 1, len(trials))}
    dropped = [one for one in trials if one.candidate.values["number"] not in kept]
    assert all(one.rank >= trials[place].rank for one in dropped for place in kept[1:])


def test_the_nearest_to_the_truth_among_those_that_edit():
    idle, near, far = trial([0.1, 0.1], [0, 0.9]), trial([0.2, 0.3], [1, 0]), trial([0.4, 0.3], [1, 1])
    assert tuning.chosen([idle, near, far]) is near
    assert tuning.chosen([idle, far]) is far
    assert tuning.chosen([idle, trial([0.01, 0.01], [0, 0])]) is idle  # none edits: the one that edits most
    assert tuning.chosen([trial([0.1], [math.nan]), far]) is far
    same = trial([0.2, 0.3], [1, 0])
    assert tuning.chosen([same, near]) is same  # the default before any other


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("kind", ["pictures", "scenes"])
def test_every_method_has_settings_to_try_and_the_default_is_the_first(name, kind):
    cls = METHODS.load(name)
    if cls.card.kind == "reference" or kind not in cls.kinds:
        return
    profile, space = EMBEDDED.for_kind(kind), tuning.search_space(name, {}, kind)
    try:
        [profile.model_beside(model) for model in cls.card.models]
    except ModelError as error:
        pytest.skip(str(error))
    assert next(iter(space)) == cls.card.strength.parameter
    tried = tuning.candidates(name, space, {}, profile, kind, 0)
    (default,) = resolve_variants([name], {}, profile, kind)
    assert tried[0].variant.key == default.key
    assert len({one.variant.key for one in tried}) == len(tried)
    assert {tuple(one.values.values()) for one in tried[1:]} <= set(product(*space.values()))
    again = tuning.candidates(name, space, {}, profile, kind, 0)
    assert [one.values for one in again] == [one.values for one in tried]
    other = tuning.candidates(name, space, {}, profile, kind, 1)
    assert {one.variant.key for one in other} == {one.variant.key for one in tried}


def test_what_the_user_gives_replaces_what_is_declared():
    given = {
        "preservation_weight": [0.3, 0.6],
        "learning_rate": [0.2],
        "steps": [10, 20],
        "guidance_scale": [4],
    }
    space = tuning.search_space("piva_analytic", given, "pictures")
    assert space == {"preservation_weight": (0.3, 0.6), "steps": (10, 20)}
    tried = tuning.candidates(
        "piva_analytic", space, {"learning_rate": 0.2, "guidance_scale": 4}, EMBEDDED, "pictures", 0
    )
    assert len(tried) == 5
    assert {one.variant.params_dict()["guidance_scale"] for one in tried} == {4}
    space = tuning.search_space("piva", {"preservation_wait": [1, 2]}, "pictures")
    with pytest.raises(UserError, match="Did you mean preservation_weight"):
        tuning.candidates("piva", space, {}, EMBEDDED, "pictures", 0)
    with pytest.raises(UserError, match="has nothing to tune"):
        tuning.search_space("identity", {}, "pictures")


def test_another_protocol_cannot_judge():
    assert tuning.distance_of("studio-v1") == "counterfactual_stlpips"
    assert tuning.distance_of("views-v1") == "reference_stlpips"
    with pytest.raises(UserError, match="does not measure the distance to the true edit"):
        tuning.distance_of("pnp-v1")


# Defaults ---------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder that profiles take tuned defaults from."""
    monkeypatch.setattr(paths, "tuning_dir", lambda: tmp_path)
    tuned.tuning_files.cache_clear()
    yield tmp_path
    tuned.tuning_files.cache_clear()


def write(folder, **changes):
    facts = {
        "method": "dds", "kind": "pictures", "profile": "embedded", "model": "studio-sd", "model_fingerprint": "0",
        "whole": True, "chosen": {"guidance_scale": 3.0, "learning_rate": 0.2}, "trials": [],
    }  # fmt: skip
    (folder / "dds-pie_val.json").write_text(json.dumps({**facts, **changes}))


def test_a_profile_takes_its_defaults_from_tuning_and_says_so(files):
    write(files)
    dds, sds = resolve_variants(["dds", "sds"], {}, EMBEDDED)
    assert (dds.params_dict()["guidance_scale"], dds.params_dict()["learning_rate"]) == (3.0, 0.2)
    assert dds.replaced["guidance_scale"] == (7.5, 3.0, "results/tuning/dds-pie_val.json")
    assert sds.params_dict()["guidance_scale"] == 5.0  # another method keeps the profile's
    (given,) = resolve_variants(["dds"], {"guidance_scale": 5}, EMBEDDED)
    assert given.params_dict()["guidance_scale"] == 5.0  # the user wins
    # A later tune begins at what the code declares, whatever an earlier one found.
    first = tuning.candidates("dds", {"guidance_scale": (2, 3)}, {}, EMBEDDED, "pictures", 0)[0]
    assert first.variant.params_dict()["guidance_scale"] == 5.0
    assert first.variant.params_dict()["learning_rate"] == 0.1


@pytest.mark.parametrize(
    "changes",
    [{"whole": False}, {"kind": "scenes"}, {"profile": "paper"}, {"model": "else"}, {"method": "sds"}],
    ids=str,
)
def test_what_was_tuned_for_something_else_changes_nothing(files, changes):
    write(files, **changes)
    (dds,) = resolve_variants(["dds"], {}, EMBEDDED)
    assert dds.params_dict()["guidance_scale"] == 5.0


def test_a_damaged_file_is_one_line(files):
    write(files, whole=None)
    with pytest.raises(DataError, match="is no tuning file, or a damaged one: remove it, or tune again"):
        resolve_variants(["dds"], {}, EMBEDDED)


def test_the_committed_files_are_of_the_model_that_ships_and_their_choice_is_the_default():
    from piva_bench.runs.request import model_fingerprint

    for one in tuned.tuning_files(paths.tuning_dir()):
        profile = get_profile(one.profile).for_kind(one.kind)
        (variant,) = resolve_variants([one.method], {}, profile, one.kind)
        params = variant.method().params.model_dump() | variant.follow.model_dump()
        assert one.whole, f"{one.file} was not tuned on the whole set"
        assert {name: params[name] for name in one.chosen} == one.chosen
        assert one.model_fingerprint == model_fingerprint(paths.embedded_model_dir()), (
            f"{one.file} was tuned by other weights: `piva-bench tune --method {one.method}` again"
        )

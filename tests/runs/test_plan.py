import itertools
from pathlib import Path

import pytest

from piva_bench.data.sample import Sample
from piva_bench.errors import UnknownName, UserError
from piva_bench.profiles import Profile
from piva_bench.runs.plan import make_batches, make_groups, make_units, select_samples
from piva_bench.runs.record import Setup
from piva_bench.runs.variants import resolve_variants

PROFILE = Profile(
    name="p", title="", model="m", resolution=8, protocol="x", method_defaults={"steps": 100, "no_such": 1}
)
SETUP = Setup(
    profile="p",
    dataset="d",
    dataset_revision="r",
    model="m",
    model_fingerprint="f",
    resolution=8,
    dtype="float32",
)


def sample(name, edit_type="0_random"):
    return Sample(name, Path(name), "a", "b", "", edit_type)


SAMPLES = [sample(f"s{i}", f"{i // 5}_type") for i in range(20)]


def test_user_beats_profile_beats_method():
    (piva,) = resolve_variants(["piva"], {"preservation_weight": 0.7}, PROFILE)
    assert piva.params_dict()["preservation_weight"] == 0.7
    assert piva.params_dict()["steps"] == 100
    (piva,) = resolve_variants(["piva"], {"steps": 7}, PROFILE)
    assert piva.params_dict()["steps"] == 7


def test_a_parameter_goes_to_the_methods_that_have_it():
    piva, dds, identity = resolve_variants(["piva", "dds", "identity"], {"preservation_weight": 0.5}, PROFILE)
    assert piva.params_dict()["preservation_weight"] == 0.5
    assert "preservation_weight" not in dds.params_dict()
    assert identity.params_dict() == {}


@pytest.mark.parametrize(
    ("methods", "given", "message"),
    [
        (["pvia"], {}, "Unknown method 'pvia'. Did you mean piva"),
        (["piva"], {"preservation_wieght": 1}, "Did you mean preservation_weight"),
        (["identity"], {"steps": 1}, "Unknown parameter of identity 'steps'"),
        (
            ["piva"],
            {"preservation_weight": -1},
            "preservation_weight=-1: input should be greater than or equal to 0",
        ),
        (["piva"], {"steps": "many"}, "steps='many': input should be a valid integer"),
        (["piva"], {"guidance_scale": float("nan")}, "guidance_scale=nan"),
        (["piva"], {"t_min": 900, "t_max": 100}, r"t_min \(900\) is above t_max \(100\)"),
    ],
)
def test_mistakes_are_one_line_that_helps(methods, given, message):
    with pytest.raises(UserError, match=message) as error:
        resolve_variants(methods, given, PROFILE)
    assert "\n" not in str(error.value)


def test_piva_without_its_regulariser_is_stored_as_dds():
    piva, dds = resolve_variants(["piva", "dds"], {"preservation_weight": 0}, PROFILE)
    assert (piva.requested, piva.name, piva.cls) == ("piva", "dds", dds.cls)
    units = make_units(SETUP, [piva, dds], SAMPLES, [0])
    assert len(units) == len(SAMPLES)


def test_a_method_in_a_file_is_keyed_by_its_text(bench, tmp_path):
    copy = tmp_path / "odd.py"
    copy.write_text((bench / "odd.py").read_text())

    def key():
        return make_units(SETUP, resolve_variants([f"{copy}:Invert"], {"steps": 3}, PROFILE), SAMPLES, [0])[
            0
        ].key

    before = key()
    assert key() == before
    copy.write_text(copy.read_text() + "\n# changed\n")
    assert key() != before


def test_a_method_in_a_file_must_not_pose_as_an_installed_one(bench):
    with pytest.raises(UserError, match="calls itself 'dds'"):
        resolve_variants([f"{bench / 'odd.py'}:CallsItselfDDS"], {"steps": 3}, PROFILE)


def test_limits_are_spread_over_edit_types_and_nested():
    chosen = [select_samples(SAMPLES, limit=n) for n in range(1, 21)]
    assert {s.edit_type for s in chosen[3]} == {s.edit_type for s in SAMPLES}
    for smaller, larger in itertools.pairwise(chosen):
        assert {s.id for s in smaller} < {s.id for s in larger}
    assert [s.id for s in chosen[-1]] == [s.id for s in SAMPLES]
    assert select_samples(SAMPLES, limit=99) == SAMPLES


def test_samples_by_id():
    assert [s.id for s in select_samples(SAMPLES, ["s7", "s2"])] == ["s2", "s7"]
    with pytest.raises(UnknownName, match="Unknown sample 's77'. Did you mean s7"):
        select_samples(SAMPLES, ["s77"])


def test_batches_never_mix_parameters_or_seeds():
    variants = resolve_variants(["piva", "dds"], {}, PROFILE)
    units = make_units(SETUP, variants, SAMPLES, [0, 1])
    batches = make_batches(units, 16)
    assert [unit for batch in batches for unit in batch.units] == units
    assert [len(batch.units) for batch in batches] == [16, 4] * 4
    assert all(len({(unit.variant.name, unit.seed) for unit in batch.units}) == 1 for batch in batches)


def test_settings_take_turns_on_the_same_samples_if_asked():
    variants = resolve_variants(["piva", "dds"], {}, PROFILE)
    units = make_units(SETUP, variants, SAMPLES, seeds=(0, 1))
    # A sweep that was cut off: the first setting has its first batch already.
    batches = make_batches(units[8:], 8)
    assert [[b] for b in batches] == make_groups(batches, by_sample=False)
    groups = make_groups(batches, by_sample=True)
    firsts = [[(b.variant.name, b.seed, b.units[0].sample.id) for b in group] for group in groups]
    assert firsts == [
        [("piva", 0, "s8"), ("dds", 0, "s8")], [("piva", 0, "s16"), ("dds", 0, "s16")],
        [("piva", 1, "s0"), ("dds", 1, "s0")], [("piva", 1, "s8"), ("dds", 1, "s8")],
        [("piva", 1, "s16"), ("dds", 1, "s16")], [("dds", 0, "s0")],
    ]  # fmt: skip


def steps_of(batch):
    return batch.variant.params.steps, {steps: len(units) for steps, units in batch.shorter.items()}


def test_settings_that_differ_in_steps_alone_are_one_batch_of_the_longest():
    variants = [v for n in (25, 100, 50) for v in resolve_variants(["dds"], {"steps": n}, PROFILE)]
    variants += resolve_variants(["dds"], {"steps": 50, "guidance_scale": 3}, PROFILE)
    units = make_units(SETUP, variants, SAMPLES[:5], [0])
    batches = make_batches(units, 4)
    assert [steps_of(batch) for batch in batches] == [
        (100, {25: 4, 50: 4}),
        (100, {25: 1, 50: 1}),
        (50, {}),
        (50, {}),
    ]
    assert sorted(u.key for b in batches for u in b.all_units) == sorted(u.key for u in units)
    assert all(
        [u.sample for u in b.units] == [u.sample for u in of] for b in batches for of in b.shorter.values()
    )


def test_samples_that_miss_other_steps_are_other_batches():
    variants = [v for n in (25, 50) for v in resolve_variants(["dds"], {"steps": n}, PROFILE)]
    units = make_units(SETUP, variants, SAMPLES[:4], [0])
    batches = make_batches(units[1:-1], 8)  # the first has its 25 steps, the last its 50
    assert [steps_of(batch) for batch in batches] == [(50, {25: 2}), (25, {}), (50, {})]


def test_methods_that_cannot_be_seen_on_their_way_are_computed_apart():
    variants = [v for n in (25, 50) for v in resolve_variants(["sdedit"], {"steps": n}, PROFILE)]
    batches = make_batches(make_units(SETUP, variants, SAMPLES[:4], [0]), 8)
    assert [(b.variant.params.steps, b.shorter) for b in batches] == [(25, {}), (50, {})]


RULE = """
from methods.dds import DDS, DDSParams
from piva_bench.plugin import LatentParams, MethodCard, parameter


def card(name):
    return MethodCard(name=name, title=name, paper=None, summary="", kind="distillation", idea_code_license="none")


class Slow(LatentParams):
    learning_rate: float = parameter(0.01, gt=0, le=1, source="assumed", description="slower than DDS")


class OwnLatents(DDS):
    card = card("own-latents")
    kinds = {"pictures": Slow}


class TwiceParams(DDSParams):
    learning_rate: float = parameter(0.01, gt=0, le=1, source="assumed", description="slower than DDS")


class Twice(DDS):
    card = card("twice")
    Params = TwiceParams
"""


def test_a_rule_declares_how_its_latents_move_beside_its_own_parameters(tmp_path):
    (tmp_path / "rules.py").write_text(RULE)
    own = f"{tmp_path / 'rules.py'}:OwnLatents"
    (variant,) = resolve_variants([own], {}, PROFILE)
    assert variant.params_dict()["learning_rate"] == 0.01
    assert not hasattr(variant.params, "learning_rate")
    (given,) = resolve_variants([own], {"learning_rate": 0.5}, PROFILE)
    assert given.follow.model_dump()["learning_rate"] == 0.5
    assert given.key != variant.key
    with pytest.raises(UserError, match="edits pictures, not scenes"):
        resolve_variants([own], {}, PROFILE, "scenes")
    with pytest.raises(UserError, match="learning_rate is a parameter of LatentParams already"):
        resolve_variants([f"{tmp_path / 'rules.py'}:Twice"], {}, PROFILE)


def test_a_parameter_that_came_later_leaves_the_keys_of_earlier_records():
    (before,) = resolve_variants(["piva"], {}, PROFILE)
    assert not {"lora_layers", "aux_draws"} & set(before.params_dict())
    (same,) = resolve_variants(["piva"], {"lora_layers": "attention", "aux_draws": 1}, PROFILE)
    assert same.key == before.key
    (other,) = resolve_variants(["piva"], {"aux_draws": 4}, PROFILE)
    assert other.params_dict()["aux_draws"] == 4
    assert other.key != before.key

"""Groups of methods by name."""

import pytest

from piva_bench import paths
from piva_bench.errors import ModelError, UserError
from piva_bench.method import MethodCard
from piva_bench.profiles import get_profile
from piva_bench.registry import METHODS
from piva_bench.runs import groups
from piva_bench.runs.groups import members
from piva_bench.runs.request import RunRequest, prepare


def kinds():
    return {name: METHODS.load(name).card.kind for name in METHODS.names()}


EMBEDDED = get_profile("embedded")


@pytest.fixture
def instructed(tmp_path, monkeypatch):
    """As if the embedded InstructPix2Pix were there."""
    monkeypatch.setattr(paths, "studio_ip2p_dir", lambda: tmp_path)


@pytest.fixture
def not_instructed(tmp_path, monkeypatch):
    """As if it were not."""
    monkeypatch.setattr(paths, "studio_ip2p_dir", lambda: tmp_path / "nothing")


def editors(kind):
    return [name for name in METHODS.names() if kind in METHODS.load(name).kinds]


@pytest.mark.usefixtures("instructed")
@pytest.mark.parametrize("group", ["distillation", "sampling", "reference"])
def test_a_group_is_every_method_of_its_kind(group):
    found, notes = members([group], "pictures", EMBEDDED)
    assert found == [name for name in editors("pictures") if kinds()[name] == group]
    assert found
    assert all("not pictures" in note for note in notes)


@pytest.mark.usefixtures("instructed")
def test_all_is_all_and_nothing_comes_twice():
    assert members(["dds", "all", "sampling"], "pictures", EMBEDDED)[0] == [
        "dds",
        *(n for n in editors("pictures") if n != "dds"),
    ]
    assert members(["file.py:Mine", "dds"], "pictures", EMBEDDED) == (["file.py:Mine", "dds"], [])


@pytest.mark.usefixtures("not_instructed")
def test_a_group_says_what_makes_the_embedded_instruction_model_and_a_method_by_itself_stops():
    found, notes = members(["sampling"], "pictures", EMBEDDED)
    assert "instruct_pix2pix" not in found
    (note,) = [note for note in notes if "instruct_pix2pix" in note]
    assert "`piva-bench studio train ip2p" in note
    with pytest.raises(ModelError, match="`piva-bench studio train ip2p"):
        prepare(RunRequest(methods=("instruct_pix2pix",), dataset="pie", limit=1))


@pytest.mark.usefixtures("not_instructed")
def test_what_does_not_edit_scenes_is_left_out_and_said():
    found, notes = members(["all"], "scenes", EMBEDDED)
    assert all("scenes" in METHODS.load(name).kinds for name in found)
    left = sorted(set(METHODS.names()) - set(found))
    assert [note.split()[1] for note in notes] == left
    assert "flowedit" in left
    assert "not scenes" in notes[0]
    with pytest.raises(UserError, match="sampling"):
        members(["sampling"], "scenes", EMBEDDED)


def test_a_method_that_cannot_be_loaded_or_lacks_a_model_is_said(monkeypatch):
    class Needy(METHODS.load("dds")):
        card = MethodCard(
            name="needy", title="Needy", paper=None, summary="-", kind="distillation", models=("/no/model",),
            idea_code_license="-",
        )  # fmt: skip

    class Some:
        @staticmethod
        def names():
            return ["broken", "dds", "needy"]

        @staticmethod
        def load(name):
            if name == "broken":
                raise UserError("it cannot be loaded: typo")
            return Needy if name == "needy" else METHODS.load(name)

    monkeypatch.setattr(groups, "METHODS", Some)
    found, notes = members(["distillation"], "pictures", EMBEDDED)
    assert found == ["dds"]
    assert notes[0] == "distillation: broken is left out: it cannot be loaded: typo"
    assert notes[1].startswith("distillation: needy is left out: No model at")


@pytest.mark.usefixtures("not_instructed")
def test_a_run_of_a_group_says_what_it_leaves_out():
    prepared = prepare(RunRequest(methods=("all",), dataset="objaverse", limit=1, params={"fit_steps": 5}))
    assert {variant.name for variant in prepared.variants} >= {"piva", "drfs", "flowalign", "identity"}
    assert any("flowedit" in note for note in prepared.notes)

"""Groups of methods by name."""

import pytest

from piva_bench.errors import UserError
from piva_bench.method import MethodCard
from piva_bench.registry import METHODS
from piva_bench.runs import groups
from piva_bench.runs.groups import members
from piva_bench.runs.request import RunRequest, prepare


def kinds():
    return {name: METHODS.load(name).card.kind for name in METHODS.names()}


@pytest.mark.parametrize("group", ["distillation", "sampling", "reference"])
def test_a_group_is_every_method_of_its_kind(group):
    found, notes = members([group], "pictures")
    assert found == [name for name, kind in kinds().items() if kind == group]
    assert found
    assert notes == []


def test_all_is_all_and_nothing_comes_twice():
    assert members(["dds", "all", "sampling"], "pictures")[0] == [
        "dds",
        *(n for n in METHODS.names() if n != "dds"),
    ]
    assert members(["file.py:Mine", "dds"], "pictures") == (["file.py:Mine", "dds"], [])


def test_what_does_not_edit_scenes_is_left_out_and_said():
    found, notes = members(["all"], "scenes")
    assert all("scenes" in METHODS.load(name).kinds for name in found)
    left = sorted(set(METHODS.names()) - set(found))
    assert [note.split()[1] for note in notes] == left
    assert "flowedit" in left
    assert "not scenes" in notes[0]
    with pytest.raises(UserError, match="sampling"):
        members(["sampling"], "scenes")


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
    found, notes = members(["distillation"], "pictures")
    assert found == ["dds"]
    assert notes[0] == "distillation: broken is left out: it cannot be loaded: typo"
    assert notes[1].startswith("distillation: needy is left out: No model at")


def test_a_run_of_a_group_says_what_it_leaves_out():
    prepared = prepare(RunRequest(methods=("all",), dataset="objaverse", limit=1, params={"fit_steps": 5}))
    assert {variant.name for variant in prepared.variants} >= {"piva", "drfs", "flowalign", "identity"}
    assert any("flowedit" in note for note in prepared.notes)

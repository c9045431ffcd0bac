"""Objects of an Objaverse cache as samples: what they show, where it is kept, what is left out and why."""

import numpy as np
import pytest

from piva_bench.data import objaverse_objects
from piva_bench.data.dataset import verify
from piva_bench.data.scenes import open_objaverse
from piva_bench.errors import DataError, UnknownName
from piva_bench.profiles import PROFILES
from piva_bench.scene.cameras import RIG
from piva_bench.scene.objaverse import ObjaverseFetcher, read_subset, subset_names
from tests.data.tiny_objects import ABSENT, LONG, PAID, RED, SILENT, glb, write_cache, write_subset
from tests.scene.models.gltf_writer import CORNERS, Gltf

PROFILE = PROFILES["paper"].model_copy(update={"resolution": 32})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIVA_BENCH_OBJAVERSE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIVA_BENCH_VIEWS", str(tmp_path / "views"))
    return write_cache(tmp_path / "cache")


@pytest.fixture
def subset(tmp_path):
    return lambda *uids, **extra: write_subset(tmp_path / "tiny.yaml", *uids, **extra)


def test_each_target_prompt_is_a_sample_and_the_first_edits_come_first(cache, subset):
    dataset = open_objaverse(PROFILE, subset(RED, LONG))
    assert (dataset.name, dataset.samples[0].kind, dataset.resolution) == ("objaverse", "scenes", 32)
    assert [sample.id for sample in dataset.samples] == [
        "box-a-aaaaaaaa-1", "box-b-bbbbbbbb-1", "box-a-aaaaaaaa-2", "box-b-bbbbbbbb-2",
    ]  # fmt: skip
    sample = dataset.samples[2]
    assert (sample.source_prompt, sample.target_prompt) == ("a red box", "a wooden box")
    assert sample.prompts("back") == ("a red box, back view", "a wooden box, back view")
    assert sample.tags == {"object": RED, "licence": "CC-BY-4.0"}
    assert sample.load_counterfactual() is None
    assert dataset.card.license == "by object: 1 CC-BY-4.0, 1 CC0-1.0"
    studio = PROFILE.model_copy(update={"name": "embedded"})
    (words,) = {sample.prompts("back")[0] for sample in open_objaverse(studio, subset(RED)).samples}
    assert words == "a red box seen from behind"


def test_an_object_is_photographed_from_the_rig_before_white(cache, subset):
    pytest.importorskip("moderngl")
    sample = open_objaverse(PROFILE, subset(LONG)).samples[0]
    fit, turn = sample.load_views(), sample.load_turntable()
    assert (len(fit.views), len(turn.views)) == (64, 120)
    assert turn.views.cameras.azimuths[0] == pytest.approx(0)
    assert np.allclose(turn.views.cameras.positions, RIG.turntable(120, 32).positions)
    assert (turn.backgrounds == 255).all()
    assert fit.colour is None
    seen = turn.views.images[turn.views.images[..., 3] == 255][:, :3].mean(0)
    assert seen[0] > 2 * seen[1]  # red
    # The longest edge is the rig's 2.5 with a fifth of it all around; a GLB's z is the world's y.
    assert np.ptp(sample.box, axis=0) == pytest.approx([0.625 + 1, 2.5 + 1, 0.625 + 1], abs=1e-4)
    distance = turn.views.depth[turn.views.depth > 0]
    assert distance.min() > 2.5
    assert distance.max() < 5.5
    assert verify(open_objaverse(PROFILE, subset(LONG), strict=False)) == []


def test_photographs_are_taken_once_and_again_where_they_are_torn(cache, subset, monkeypatch, tmp_path):
    pytest.importorskip("moderngl")
    taken, photograph = [], objaverse_objects.photograph
    monkeypatch.setattr(objaverse_objects, "photograph", lambda *given: taken.append(1) or photograph(*given))
    before = [sample.load_views().views.images for sample in open_objaverse(PROFILE, subset(RED)).samples]
    assert taken == [1]
    (kept,) = (tmp_path / "views").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:1000])
    after = open_objaverse(PROFILE, subset(RED)).samples[1].load_views().views.images
    assert taken == [1, 1]
    assert (after == before[0]).all()
    larger = PROFILE.model_copy(update={"resolution": 40})
    assert open_objaverse(larger, subset(RED)).samples[0].load_views().views.images.shape[1] == 40
    assert taken == [1, 1, 1]


def test_the_revision_follows_list_and_files_and_the_scene_its_file_alone(cache, subset):
    first = open_objaverse(PROFILE, subset(RED, LONG))
    assert len(first.revision) == 16
    assert open_objaverse(PROFILE, subset(RED, LONG)).revision == first.revision
    fewer = open_objaverse(PROFILE, subset(RED))
    assert fewer.revision != first.revision
    assert fewer.samples[0].scene_id == first.samples[0].scene_id
    glb(cache, LONG).unlink()
    assert open_objaverse(PROFILE, subset(RED, LONG)).revision != first.revision
    glb(cache, RED).write_bytes(glb(cache, PAID).read_bytes())
    changed = open_objaverse(PROFILE, subset(RED))
    assert changed.revision != fewer.revision
    assert changed.samples[0].scene_id != fewer.samples[0].scene_id


def test_what_is_left_out_is_said_in_a_line_each(cache, subset):
    path = subset(RED, PAID, ABSENT, SILENT)
    dataset = open_objaverse(PROFILE, path)
    assert {sample.tags["object"] for sample in dataset.samples} == {RED}
    silent, paid, absent = dataset.notes
    assert silent == "tiny: 1 of 4 objects have no prompts: passed over"
    assert "Box c left out: its licence CC-BY-NC-4.0 forbids commercial use (--include-nc" in paid
    assert "1 of 3 objects are not in" in absent
    assert absent.endswith(f"(Box d): `piva-bench data fetch objaverse --subset {path}` gets them")
    cards = read_subset(path).promptable()
    assert ObjaverseFetcher(noncommercial=True, sleep=lambda seconds: None).fetch(cards[:2]).objects
    # Whoever asked for it when it was fetched need not ask again.
    again = open_objaverse(PROFILE, path)
    assert {sample.tags["object"] for sample in again.samples} == {RED, PAID}
    assert again.revision != dataset.revision


def test_a_refused_object_is_not_offered_for_fetching_again(cache, subset):
    glb(cache, PAID).unlink()
    path = subset(RED, PAID)
    assert "not in" in open_objaverse(PROFILE, path).notes[0]
    ObjaverseFetcher().fetch(read_subset(path).promptable())
    (note,) = open_objaverse(PROFILE, path).notes
    assert "forbids commercial use" in note


@pytest.mark.parametrize(
    ("damage", "uids", "line"),
    [
        (
            lambda cache: glb(cache, RED).write_bytes(glb(cache, RED).read_bytes()[:99]),
            (RED, LONG),
            "is torn",
        ),
        (
            lambda cache: glb(cache, RED).write_bytes(b"<html>"),
            (RED,),
            "is no GLB: delete it and fetch it again",
        ),
        (lambda cache: None, (ABSENT,), "data fetch objaverse --subset"),
        (lambda cache: None, (PAID,), "forbids commercial use"),
        (lambda cache: None, (SILENT,), "no object has prompts"),
        (lambda cache: (cache / "piva-bench-objects.json").write_text("{"), (RED,), "is torn: delete it"),
    ],
)
def test_what_cannot_be_used_is_one_line(cache, subset, damage, uids, line):
    damage(cache)
    with pytest.raises(DataError, match=line) as error:
        open_objaverse(PROFILE, subset(*uids))
    assert "\n" not in str(error.value)


def test_a_file_that_only_looks_like_a_glb_is_found_when_it_is_looked_at(cache, subset):
    whole = bytearray(glb(cache, RED).read_bytes())
    whole[20:60] = b"x" * 40  # header and length are right
    glb(cache, RED).write_bytes(bytes(whole))
    (problem,) = verify(open_objaverse(PROFILE, subset(RED, LONG), strict=False))
    assert problem.message.startswith("Box a: cannot read the 3D model")


def spoilt(gltf):
    """The names of what is wrong with objects whose GLBs are whole, by what is said of it."""
    lines = {"primitives": [gltf.pyramid() | {"mode": 0}]}
    stray = {"primitives": [gltf.pyramid(), gltf.pyramid(None, np.add(CORNERS * 1e-3, [500, 0, 0]))]}
    return {"holds no triangle (but points)": lines, "a stray part lies far away": stray}


@pytest.mark.parametrize(
    "said", ["holds no triangle (but points)", "a stray part lies far away", "requires ACME_new"]
)
def test_each_bad_object_is_one_problem_by_its_name_and_its_edits_fail_with_it(cache, subset, said):
    pytest.importorskip("moderngl")
    gltf = Gltf()
    gltf.tree["meshes"].append(spoilt(gltf).get(said, {"primitives": [gltf.pyramid()]}))
    gltf.add("nodes", mesh=0)
    if said.startswith("requires"):
        gltf.require("ACME_new")
    gltf.write(glb(cache, RED))
    glb(cache, LONG).write_bytes(glb(cache, LONG).read_bytes()[:99])
    dataset = open_objaverse(PROFILE, subset(RED, LONG), strict=False)
    assert len(dataset.samples) == 2  # two edits of one object, whose fault is said once
    torn, bad = verify(dataset)
    assert torn.message.startswith("Box b: ")
    assert "is torn" in torn.message
    assert bad.message.startswith("Box a: cannot read the 3D model")
    assert said in bad.message
    for sample in dataset.samples:
        with pytest.raises(DataError, match="Box a: "):
            sample.load_views()
        assert sample.notes == ()


def test_what_is_not_shown_of_an_object_is_kept_with_its_views(cache, subset):
    pytest.importorskip("moderngl")
    gltf = Gltf()
    gltf.show(gltf.pyramid(gltf.painted(1, 0, 0)))
    gltf.tree["animations"] = [{}]
    gltf.write(glb(cache, RED))
    for _ in range(2):  # the second time from the cache
        sample = open_objaverse(PROFILE, subset(RED)).samples[1]
        assert sample.notes == ("Box a: not shown: animations",)


def test_a_changed_checksum_is_a_problem(cache, subset):
    with pytest.raises(DataError, match="checksum pinned"):
        open_objaverse(PROFILE, subset(RED, sha256="0" * 64))
    (problem,) = verify(open_objaverse(PROFILE, subset(RED, sha256="0" * 64), strict=False))
    assert "checksum pinned" in problem.message


def test_names_reach_lists_and_folders_the_embedded_set(cache, tmp_path):
    with pytest.raises(DataError, match="data fetch objaverse --subset first-author"):
        open_objaverse(PROFILE, None)
    # A run's manifest keeps --data-root as a whole path.
    with pytest.raises(DataError, match="data fetch objaverse --subset intex"):
        open_objaverse(PROFILE, tmp_path / "intex")
    with pytest.raises(UnknownName, match="Did you mean first-author") as error:
        open_objaverse(PROFILE, tmp_path / "first-autor")
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="no dataset of 3D edits"):
        open_objaverse(PROFILE, tmp_path)
    embedded = open_objaverse(PROFILES["embedded"], None)
    assert (embedded.card.name, embedded.revision) == ("objaverse-studio", "2efb56bbbde04a1a")


def test_the_second_list_has_prompts_for_all_its_objects():
    assert "intex" in subset_names()
    subset = read_subset("intex")
    assert len(subset.objects) == len(subset.promptable()) == 39
    assert len({card.uid for card in subset.objects}) == 39
    for name in subset_names():
        for card in read_subset(name).promptable():
            assert card.source_prompt not in card.target_prompts

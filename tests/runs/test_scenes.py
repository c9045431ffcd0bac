"""Runs on scenes: what is stored, what is shared, and that nothing is computed twice or mixed up with pictures."""

import json
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from piva_bench import profiles, registry
from piva_bench.data.scenes import read_scenes
from piva_bench.distillation.field_edit import FieldEdit
from piva_bench.errors import DataError, UserError
from piva_bench.metrics.protocol import MetricInfo, Scores
from piva_bench.profiles import PROFILES
from piva_bench.report.turntables import write_turntables
from piva_bench.runs import unfinished
from piva_bench.runs.estimate import estimate
from piva_bench.runs.kinds import KINDS
from piva_bench.runs.request import RunRequest, prepare
from piva_bench.runs.run import run
from piva_bench.runs.store import Store
from piva_bench.runs.variants import resolve_variants
from piva_bench.runs.views import decode_views, encode_views
from piva_bench.scene import kept_fields as fields
from piva_bench.scene.cameras import RIG
from piva_bench.scene.field import RadianceField
from piva_bench.scene.views import PosedViews
from tests.data.tiny_objects import LONG, RED, glb, write_cache, write_subset
from tests.data.tiny_scenes import SIZE, write_tiny_scenes
from tests.runs.test_worker import Log
from tests.scene.models.gltf_writer import Gltf

SHORT = {"steps": 2, "views": 2, "fit_steps": 3, "fit_resolution": 8}


class Brightness:
    """A protocol for scenes, small and real."""

    name, kind, fingerprint = "bright-v1", "scenes", "0123456789abcdef"
    descriptors = {  # noqa: RUF012
        "brightness": MetricInfo("brightness", "Brightness", "", "higher", 1.0, "identity", "a test", True)
    }

    def score(self, pair):
        return Scores.collect({"brightness": float(pair.edited.composite().mean())})


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PIVA_BENCH_FIELDS", str(tmp_path / "fields"))
    write_tiny_scenes(tmp_path / "scenes")
    return tmp_path / "scenes"


@pytest.fixture
def do(bench, tiny_profile, root, tmp_path, monkeypatch):
    """Runs methods on the tiny scenes; gives the summary and the watcher's log."""
    changes = {"resolution": SIZE, "scene_protocol": "bright-v1", "scene_defaults": SHORT}
    monkeypatch.setitem(profiles.PROFILES, "embedded", tiny_profile.model_copy(update=changes))
    plugin = types.ModuleType("bright")
    plugin.Brightness = Brightness
    monkeypatch.setitem(sys.modules, "bright", plugin)
    folder = tmp_path / "plugins" / "bright-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Name: bright\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[piva_bench.metrics]\nbright-v1 = bright:Brightness\n")
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    monkeypatch.setattr(registry.PROTOCOLS, "_points", registry.find_plugins(registry.PROTOCOLS.group))

    def go(*methods, **options):
        given = {"batch_size": 2, "output_dir": tmp_path / "out", "device": "cpu", "data_root": root}
        request = RunRequest(methods=methods, dataset="objaverse", workers=1, **given | options)
        log = Log()
        return run(prepare(request), log, ["test"]), log

    return go


def test_edits_of_scenes_are_stored_scored_and_found_again(do, tmp_path):
    summary, log = do("dds", "identity", "counterfactual", keep_fields=True)
    assert [record.reason for record in summary.records] == [None] * 6
    assert log.headline == ["brightness"]
    assert all(scores.values["brightness"] > 0 for scores in log.scores)
    store, samples = Store(tmp_path / "out"), read_scenes("objaverse", tmp_path / "scenes").samples
    for record in summary.records:
        (sample,) = (sample for sample in samples if sample.id == record.sample_id)
        turn = sample.load_turntable().views
        views = store.load_views(record, turn.cameras)
        if record.method == "counterfactual":
            true = sample.load_counterfactual().views
            seen = true.images[..., 3] > 0
            assert (views.images[seen] == true.images[seen]).all()
            assert np.abs(views.depth - true.depth).max() < 1e-4
        else:
            field = RadianceField.load(tmp_path / "out" / "fields" / f"{record.key}.safetensors")
            shown = field.render_views(turn.cameras)
            # The kept field is in half precision.
            assert np.abs(shown.images[..., 3].astype(int) - views.images[..., 3]).max() <= 2
            names = {name.replace(record.key, "KEY") for name in record.files}
            assert {"depth/KEY.png", "normals/KEY.png", "fields/KEY.safetensors"} <= names
            for name in names & {"mesh/KEY.glb", "mesh/KEY.ply"}:
                path = tmp_path / "out" / name.replace("KEY", record.key)
                assert len(trimesh.load(path, force="mesh").faces) > 0
        assert store.load_image(record).shape == (SIZE, SIZE, 3)
    dds = summary.records[0]
    assert {"steps", "views", "fit_steps", "field_learning_rate"} <= set(dds.params)
    assert not {"learning_rate", "loss_scale", "optimizer"} & set(dds.params)
    identity = next(record for record in summary.records if record.method == "identity")
    assert set(identity.params) == {"fit_steps", "fit_resolution"}
    again, log = do("dds", "identity", "counterfactual")
    assert (again.computed, log.todo) == (0, 0)
    assert again.records == summary.records


def test_what_a_model_does_not_show_is_in_its_records_and_what_cannot_be_read_is_their_reason(
    do, tmp_path, monkeypatch
):
    pytest.importorskip("moderngl")
    for name in ("OBJAVERSE", "VIEWS"):
        monkeypatch.setenv(f"PIVA_BENCH_{name}", str(tmp_path / name))
    cache = write_cache(tmp_path / "OBJAVERSE")
    gltf = Gltf()
    gltf.show(gltf.pyramid(gltf.painted(1, 0, 0)))
    gltf.tree["animations"] = [{}]
    gltf.write(glb(cache, RED))
    gltf.require("ACME_new")
    gltf.write(glb(cache, LONG))
    summary, log = do("identity", data_root=write_subset(tmp_path / "two.yaml", RED, LONG))
    good, bad = ([r for r in summary.records if r.tags["object"] == uid] for uid in (RED, LONG))
    assert [(record.status, record.notes) for record in good] == [
        ("ok", ("Box a: not shown: animations",))
    ] * 2
    assert [record.status for record in bad] == ["failed"] * 2
    assert all("Box b: " in r.reason and "requires ACME_new" in r.reason for r in bad)
    assert log.warnings.count("Box a: not shown: animations") == 1


def test_a_lost_or_torn_depth_is_computed_again(do, tmp_path):
    summary, _ = do("identity")
    first, second = (tmp_path / "out" / "depth" / f"{record.key}.png" for record in summary.records)
    before = first.read_bytes()
    first.write_bytes(before[:-9])
    second.unlink()
    again, log = do("identity")
    assert again.computed == 2
    assert len(log.warnings) == 2
    assert first.read_bytes() == before


def test_an_object_is_fitted_once_for_all_its_edits_and_methods(do, monkeypatch, tmp_path):
    fits = []
    fit = fields.fit_field
    monkeypatch.setattr(fields, "fit_field", lambda *given, **more: fits.append(1) or fit(*given, **more))
    do("dds", "identity")
    assert fits == [1]
    fields._read.cache_clear()
    do("sds", output_dir=tmp_path / "other")
    assert fits == [1]
    do("sds", output_dir=tmp_path / "finer", params={"fit_steps": 4})
    assert fits == [1, 1]


def test_a_torn_fit_is_fitted_again_to_the_same_bits(do, tmp_path):
    do("identity")
    (kept,) = (tmp_path / "fields").glob("*.safetensors")
    before = kept.read_bytes()
    kept.write_bytes(before[:100])
    fields._read.cache_clear()
    do("identity", overwrite=True)
    assert kept.read_bytes() == before


def test_piva_at_weight_0_is_the_record_of_dds(do):
    dds, _ = do("dds")
    piva, _ = do("piva", params={"preservation_weight": 0})
    assert piva.computed == 0
    assert [record.key for record in piva.records] == [record.key for record in dds.records]


def test_turntables_show_source_edit_and_truth_once(do, tmp_path):
    from PIL import Image

    do("identity")
    samples = {sample.id: sample for sample in read_scenes("objaverse", tmp_path / "scenes").samples}
    written = write_turntables(tmp_path / "out", samples, pytest.fail)
    assert len(written) == 2
    with Image.open(written[0]) as animation:
        assert animation.n_frames == 8
        assert animation.width == 3 * 192
    assert write_turntables(tmp_path / "out", samples, pytest.fail) == []


@pytest.mark.parametrize(
    ("methods", "given", "line"),
    [
        (
            ["dds"],
            {"learning_rate": 1},
            "learning_rate is a parameter of edits of pictures, and these are scenes",
        ),
        (["vae_roundtrip"], {}, "vae_roundtrip edits pictures, not scenes"),
        (["dds"], {"views": 0}, "views=0"),
        (["dds"], {"veiws": 2}, "views"),
        (["identity"], {"views": 2}, "views"),
    ],
)
def test_what_does_not_fit_scenes_is_one_line(methods, given, line):
    with pytest.raises(UserError, match=line) as error:
        resolve_variants(methods, given, PROFILES["embedded"], "scenes")
    assert "\n" not in str(error.value)


def test_field_parameters_and_depth_are_nothing_to_pictures():
    with pytest.raises(UserError, match="views"):
        resolve_variants(["dds"], {"views": 2}, PROFILES["embedded"])
    with pytest.raises(UserError, match="needs depth"):
        resolve_variants(["piva"], {"adapter": "controlnet"}, PROFILES["embedded"])


def test_the_depth_controlnet_is_part_of_the_key(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"a": 1}))
    profile = replace_control(tmp_path)

    def params():
        (variant,) = resolve_variants(["piva"], {"adapter": "controlnet"}, profile, "scenes")
        return variant.params_dict()

    before = params()
    (tmp_path / "config.json").write_text(json.dumps({"a": 2}))
    assert before["depth_control"] != params()["depth_control"]
    (plain,) = resolve_variants(["piva"], {}, profile, "scenes")
    assert "depth_control" not in plain.params_dict()


def replace_control(path):
    return PROFILES["embedded"].model_copy(update={"depth_control": str(path)})


@given(st.integers(1, 15), st.floats(1e-3, 1e4), st.integers(0, 2**32))
def test_views_come_back_as_they_were_stored(count, unit, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 4, 6, 4), dtype=np.uint8)
    depth = (rng.random((count, 4, 6)) * (rng.random((count, 4, 6)) > 0.3) * unit).astype(np.float32)
    cameras = RIG.turntable(count, 4).resized(6, 4)
    views = PosedViews(images, cameras, depth)
    back = decode_views(*encode_views(views), cameras)
    seen = images[..., 3] > 0
    assert (back.images[seen] == images[seen]).all()
    assert (back.images[..., 3] == images[..., 3]).all()
    assert np.abs(back.depth - depth).max() <= depth.max() / 65535
    assert ((back.depth > 0) <= (depth > 0)).all()


def test_views_of_other_cameras_or_without_depth_are_refused():
    views = PosedViews(np.zeros((2, 4, 4, 4), np.uint8), RIG.turntable(2, 4), np.zeros((2, 4, 4), np.float32))
    with pytest.raises(DataError, match="not those of 13 cameras"):
        decode_views(*encode_views(views), RIG.turntable(13, 4))
    with pytest.raises(DataError, match="storing views needs depth"):
        encode_views(replace(views, depth=None))


def test_a_dry_run_fits_no_field(do, root, tmp_path, monkeypatch):
    def fit(*args, **options):
        raise AssertionError("a field was fitted")

    monkeypatch.setattr(fields, "fit_field", fit)
    request = RunRequest(
        methods=("dds", "identity"),
        dataset="objaverse",
        data_root=root,
        output_dir=tmp_path / "out",
        device="cpu",
    )
    prepared = prepare(request)
    estimates = estimate(prepared.units, [], prepared)
    assert [one.edits for one in estimates] == [2, 2]
    assert all(one.seconds > 0 for one in estimates)
    assert not (tmp_path / "fields").exists()


def test_the_field_of_a_trial_is_as_large_as_the_fitted_one(root):
    sample = read_scenes("objaverse", root).samples[0]
    (variant,) = resolve_variants(["dds"], SHORT, PROFILES["embedded"].for_kind("scenes"), "scenes")
    trial, real = (KINDS["scenes"].task(sample, variant, SIZE, trial=trial) for trial in (True, False))
    assert trial.field.raw.shape == real.field.raw.shape
    assert 0.5 < trial.field.open.sum() / real.field.open.sum() < 2
    assert np.array_equal(trial.turntable.camera_to_world, real.turntable.camera_to_world)


def test_a_killed_run_goes_on_within_its_edits(do, tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "EVERY", 0)
    steps = {"params": {"steps": 5}}
    whole, _ = do("dds", **steps, output_dir=tmp_path / "whole")
    calls = []
    render = FieldEdit.show

    def show(self, views, step):
        calls.append(step)
        if len(calls) == 7:  # two scenes a step: in the fourth
            raise KeyboardInterrupt
        return render(self, views, step)

    monkeypatch.setattr(FieldEdit, "show", show)
    with pytest.raises(KeyboardInterrupt):
        do("dds", **steps)
    assert len(list((tmp_path / "out" / "unfinished").iterdir())) == 1
    again, _ = do("dds", **steps)
    assert calls[7:] == [3, 3, 4, 4]
    assert [record.image_sha for record in again.records] == [record.image_sha for record in whole.records]
    assert not (tmp_path / "out" / "unfinished").exists()

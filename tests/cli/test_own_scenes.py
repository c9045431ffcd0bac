"""`run` on Objaverse's objects and on captures, down to the table, and `data fetch objaverse`."""

import csv
import json
import sys
import types
import urllib.error

import numpy as np
import pytest

from piva_bench import profiles, registry
from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.cli.data import EXIT_PROBLEMS
from piva_bench.cli.run import EXIT_FAILED_SAMPLES
from piva_bench.scene.cameras import RIG, Cameras
from piva_bench.scene.transforms import write_nerf_synthetic
from piva_bench.scene.views import PosedViews
from tests.data.test_captures import write_list
from tests.data.tiny_objects import ABSENT, LONG, PAID, RED, SILENT, glb, write_cache, write_subset
from tests.distillation.scene_tasks import ball
from tests.runs.test_scenes import SHORT, Brightness


@pytest.fixture
def scenes(cli, tiny_profile, monkeypatch, tmp_path):
    """The command line, with a protocol for scenes and caches of its own."""
    monkeypatch.delenv("PIVA_BENCH_DATA_ROOT")
    for name in ("fields", "views", "objaverse"):
        monkeypatch.setenv(f"PIVA_BENCH_{name.upper()}", str(tmp_path / name))
    changes = {"scene_protocol": "bright-v1", "scene_defaults": SHORT}
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
    write_cache(tmp_path / "objaverse")
    return cli


@pytest.fixture
def no_network(monkeypatch):
    def retrieve(url, path):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlretrieve", retrieve)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_objaverse_objects_are_edited_scored_and_resumed(scenes, tmp_path):
    pytest.importorskip("moderngl")
    path = write_subset(tmp_path / "tiny.yaml", RED, ABSENT, SILENT)
    words = (
        "run",
        "-m",
        "dds,identity",
        "-d",
        "objaverse",
        "--data-root",
        path,
        "-o",
        "out",
        "--device",
        "cpu",
    )
    code, out, err = scenes(*words)
    assert code == 0, err
    assert "1 of 3 objects have no prompts" in err
    assert "1 of 2 objects are not in" in err
    assert "data fetch objaverse --subset" in err
    assert "Brightness" in out
    assert "dds" in out.lower()
    assert "4 edits: 4 computed" in err
    table = (tmp_path / "out" / "report" / "methods.md").read_text()
    assert "dds" in table.lower()
    code, out, err = scenes(*words)
    assert "4 edits: 0 computed, 4 already stored" in err
    # A later command finds the subset by what the manifest says.
    code, out, err = scenes("report", "out")
    assert code == 0, err
    assert len(list((tmp_path / "out").rglob("turntables/*.gif"))) == 4


def test_a_broken_object_fails_alone_with_its_reason(scenes, tmp_path):
    pytest.importorskip("moderngl")
    whole = bytearray(glb(tmp_path / "objaverse", LONG).read_bytes())
    whole[20:60] = b"x" * 40
    glb(tmp_path / "objaverse", LONG).write_bytes(bytes(whole))
    path = write_subset(tmp_path / "tiny.yaml", RED, LONG)
    words = ("run", "-m", "identity", "-d", "objaverse", "--data-root", path, "-o", "out", "--device", "cpu")
    code, _, err = scenes(*words)
    assert code == EXIT_FAILED_SAMPLES, err
    assert "cannot read the 3D model" in err
    assert "2 failed" in err


def test_captures_are_edited_and_scored(scenes, tmp_path, monkeypatch):
    from piva_bench.data import captures
    from piva_bench.scene import kept_fields

    monkeypatch.setattr(kept_fields, "UsualFit", lambda fit=kept_fields.UsualFit: fit(3, 8))
    monkeypatch.setattr(captures, "FRAMES", 6)
    write_nerf_synthetic(ball().render_views(RIG.sphere(6, 40)), tmp_path / "mine" / "ball")
    write_list(tmp_path / "mine", {"path": "ball"})
    words = (
        "run",
        "-m",
        "dds",
        "-d",
        "captures",
        "--data-root",
        "mine/scenes.yaml",
        "-o",
        "out",
        "--device",
        "cpu",
    )
    code, out, err = scenes(*words)
    assert code == 0, err
    assert "Brightness" in out
    assert "2 edits: 2 computed" in err
    code, out, err = scenes("describe", "dataset", "captures", "--data-root", "mine", "--json")
    assert json.loads(out)["samples"] == 2
    code, out, err = scenes("list", "datasets", "--json")
    rows = {row["name"]: row for row in json.loads(out)["datasets"]}
    assert "captures" in rows


def test_a_bad_capture_of_a_list_fails_alone_and_checks_and_plans_fit_nothing(scenes, tmp_path, monkeypatch):
    from piva_bench.data import captures
    from piva_bench.scene import kept_fields

    monkeypatch.setattr(kept_fields, "UsualFit", lambda fit=kept_fields.UsualFit: fit(3, 8))
    monkeypatch.setattr(captures, "FRAMES", 6)
    views = ball().render_views(RIG.sphere(6, 40))
    write_nerf_synthetic(views, tmp_path / "mine" / "ball")
    flipped = views.cameras.camera_to_world @ np.diag([1.0, -1, -1, 1])
    turned = PosedViews(views.images, Cameras(flipped, views.cameras.intrinsics, 40, 40))
    write_nerf_synthetic(turned, tmp_path / "mine" / "turned")
    write_list(tmp_path / "mine", {"path": "turned"}, {"path": "ball"})
    words = ("-d", "captures", "--data-root", "mine", "-o", "out", "--device", "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(kept_fields, "fit_field", lambda *given, **more: pytest.fail("a field was fitted"))
        code, out, err = scenes("data", "verify", "captures", "--data-root", "mine")
        assert code == EXIT_PROBLEMS
        assert "1 problem" in out
        (line,) = [line for line in out.splitlines() if "scene turned" in line]
        assert "OpenCV's axes" in line
        assert "note: scene ball: 6 views are few" in err
        code, out, err = scenes("run", "-m", "dds", *words, "--dry-run")
        assert code == 0, err
        assert "fitting fields not counted" in out
    assert not (tmp_path / "out").exists()
    code, _, err = scenes("run", "-m", "dds", *words)
    assert code == EXIT_FAILED_SAMPLES, err
    assert "2 failed" in err
    rows = [json.loads(path.read_text()) for path in (tmp_path / "out" / "records").rglob("*.json")]
    assert {row["sample_id"]: row["status"] for row in rows} == {
        "ball-1": "ok", "ball-2": "ok", "turned-1": "failed", "turned-2": "failed"
    }  # fmt: skip
    assert all("OpenCV's axes" in row["reason"] for row in rows if row["status"] == "failed")
    code, _, err = scenes("run", "-m", "dds", "-d", "captures", "--data-root", "mine/ball", "-o", "other")
    assert code == EXIT_USER_ERROR
    assert "is a capture itself" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("run", "-m", "dds", "-d", "objaverse", "--data-root", "first-autor"), "Did you mean first-author"),
        (
            ("run", "-m", "dds", "-d", "objaverse", "--data-root", "intex"),
            "data fetch objaverse --subset intex",
        ),
        (("run", "-m", "dds", "-d", "objaverse", "--data-root", "paid.yaml"), "forbids commercial use"),
        (("run", "-m", "dds", "-d", "captures", "--data-root", "none.yaml"), "none.yaml cannot be read"),
        (("data", "fetch", "objaverse", "--subset", "first-autor"), "Did you mean first-author"),
        (("data", "fetch", "objaverse", "--subset", "paid.yaml"), "forbids commercial use (--include-nc"),
        (("data", "fetch", "objaverse", "--cache", "empty"), "cannot fetch Objaverse's list of objects"),
        (("data", "fetch", "pie"), "pie_pp and objaverse can"),
    ],
)
def test_mistakes_are_one_line(scenes, no_network, tmp_path, words, line):
    write_subset(tmp_path / "paid.yaml", PAID)
    code, _, err = scenes(*words)
    assert code == EXIT_USER_ERROR
    assert line in err
    assert "Traceback" not in err
    errors = [each for each in err.splitlines() if each.startswith("error:")]
    assert len(errors) == 1


def test_fetching_says_what_came_and_what_was_left_out(scenes, no_network, tmp_path):
    path = write_subset(tmp_path / "tiny.yaml", RED, PAID, ABSENT, SILENT)
    code, out, err = scenes("data", "fetch", "objaverse", "--subset", path)
    assert code == 0, err
    assert out == f"tiny: 1 of 3 objects in {tmp_path / 'objaverse'}\n"
    assert "1 of 4 objects have no prompts: passed over" in err
    assert "Box a: fetched" in err
    assert "Box c: its licence CC-BY-NC-4.0 forbids commercial use (--include-nc" in err
    assert "Box d: cannot fetch" in err
    code, out, err = scenes("data", "fetch", "objaverse", "--subset", path, "--include-nc")
    assert "tiny: 2 of 3 objects" in out
    write_cache(tmp_path / "elsewhere")
    code, out, err = scenes("data", "fetch", "objaverse", "--subset", path, "--cache", tmp_path / "elsewhere")
    assert "elsewhere" in out


def test_the_paper_profile_ends_in_a_views_clean_table(scenes, bench, tmp_path, monkeypatch):
    from piva_bench.data import captures
    from piva_bench.scene import kept_fields
    from tests.metrics.paper_models import save_open_clip, save_trunk

    monkeypatch.setattr(kept_fields, "UsualFit", lambda fit=kept_fields.UsualFit: fit(3, 8))
    monkeypatch.setattr(captures, "FRAMES", 6)
    changes = {"resolution": 32, "scene_defaults": SHORT}  # and what it is scored by as it is
    monkeypatch.setitem(profiles.PROFILES, "paper", profiles.PROFILES["paper"].model_copy(update=changes))
    monkeypatch.setenv("PIVA_BENCH_EVALUATORS", "")  # restored after --evaluators has set it
    write_nerf_synthetic(ball().render_views(RIG.sphere(6, 40)), tmp_path / "mine" / "ball")
    write_list(tmp_path / "mine", {"path": "ball"})
    words = ("run", "--profile", "paper", "--model", bench / "model", "-m", "dds,identity", "-d", "captures",
             "--data-root", "mine", "-o", "out", "--device", "cpu")  # fmt: skip
    for name in ("TORCH_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    code, _, err = scenes(*words, "--evaluators", tmp_path / "nothing")
    assert code == EXIT_USER_ERROR
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "piva-bench models fetch openclip-vit-l14" in line
    assert not list((tmp_path / "out").rglob("*.png"))
    save_open_clip(tmp_path / "evaluators" / "openclip-vit-l14")
    for trunk, network in (("alex", "alexnet"), ("vgg", "vgg16")):
        save_trunk(tmp_path / "evaluators" / f"lpips-{trunk}", network)
    code, out, err = scenes(*words, "--evaluators", tmp_path / "evaluators")
    assert code == 0, err
    assert "scores views-clean" in err
    assert "4 edits: 4 computed" in err
    assert "protocol views-clean (" in out
    with (tmp_path / "out" / "report" / "methods-full.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    for row in rows.values():
        assert row["protocol"] == "views-clean"
        assert row["clip_similarity_vit_l14_n"] == "2"
        # Nobody knows a capture's counterfactual, nor its front.
        assert row["reference_psnr"] == row["haze"] == ""
    dds, same = rows["dds"], rows["identity"]
    assert float(dds["source_lpips_vgg"]) > 0 == float(same["source_lpips_vgg"])
    assert -1 <= float(dds["clip_directional_vit_l14"]) <= 1
    assert same["clip_directional_vit_l14"] == ""  # nothing changed, so in no direction
    code, out, err = scenes("describe", "protocol", "views-clean", "--json")
    titles = {row["name"]: row["title"] for row in json.loads(out)["metrics"]}
    assert titles["clip_similarity_vit_l14"] == "CLIP L14"
    assert "views-clean" in scenes("describe", "profile", "paper")[1]
    protocols = {row["name"] for row in json.loads(scenes("list", "protocols", "--json")[1])["protocols"]}
    assert {"views-v1", "views-clean"} <= protocols

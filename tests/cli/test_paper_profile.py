"""The paper profile end to end: official formats in, pnp-v1 and clean tables out. Only the models are tiny."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from piva_bench.cli.app import EXIT_USER_ERROR
from piva_bench.cli.run import EXIT_FAILED_SAMPLES
from piva_bench.data.pie_write import PieEntry, write_pie
from piva_bench.report.published import published_rows
from piva_bench.runs.foreign import read_edit
from tests.data.tiny_pie import zipped
from tests.data.tiny_pie_pp import make_pie_pp
from tests.harness import records
from tests.metrics.paper_models import save_paper_models
from tests.metrics.pictures import photograph

FOLDERS = (
    "0_random_140",
    "1_change_object_80/1_artificial/1_animal",
    "8_change_background_80/2_natural/4_outdoor",
)


def official(root, count, side):
    """A PIE-Bench zip in the official layout: nested folders, JPEG, no card."""
    entries = []
    for i in range(count):
        mask = np.zeros((side, side), bool)
        mask[side // 4 : side // 2, side // 4 : side // 2] = True
        folder = FOLDERS[i % len(FOLDERS)]
        entries.append(
            PieEntry(
                id=f"{folder[0]}110000000{i:02d}",
                image_path=f"{folder}/{folder[0]}110000000{i:02d}.jpg",
                source=np.roll(photograph(side), 7 * i, axis=1),
                source_prompt="a photo of a [woman]",
                target_prompt="a photo of a [robot]",
                instruction="Turn the woman into a robot",
                edit_type_id=folder[0],
                blended_word="woman robot",
                mask=np.ones((side, side), bool) if i == 2 else mask,
            )
        )
    write_pie(root / "data", entries)
    return zipped(root)


@pytest.fixture(scope="module")
def evaluators(tmp_path_factory):
    return save_paper_models(tmp_path_factory.mktemp("evaluators"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return official(tmp_path_factory.mktemp("official") / "PIE-Bench", 12, 512)


CARD = "name: {}\ntitle: x\nlicense: x\nsource: x\ndescription: x\nresolution: 64\n"


@pytest.fixture(scope="module")
def small_archive(tmp_path_factory):
    """The same at 64 px, which a card beside the mapping file says."""
    root = tmp_path_factory.mktemp("small") / "PIE-Bench"
    official(root, 12, 64)
    (root / "data" / "dataset.yaml").write_text(CARD.format("pie-bench"))
    return zipped(root)


@pytest.fixture
def paper(cli, bench, evaluators, monkeypatch):
    """Runs a command of the paper profile on the tiny model."""
    monkeypatch.delenv("PIVA_BENCH_DATA_ROOT")

    def run(command, *arguments):
        if command == "run":
            arguments = ("--profile", "paper", "--model", bench / "model", *arguments)
        return cli(command, *arguments, "--evaluators", evaluators)

    monkeypatch.setenv("PIVA_BENCH_EVALUATORS", "")  # restored after --evaluators has set it
    return run


def table(directory, folder="report"):
    with (directory / folder / "methods-full.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def small(paper_resolution, monkeypatch):
    """The paper profile at a size at which VGG-16 is quick; everything else as it is."""
    from piva_bench import profiles

    changed = profiles.PROFILES["paper"].model_copy(update={"resolution": paper_resolution})
    monkeypatch.setitem(profiles.PROFILES, "paper", changed)


def test_the_official_zip_goes_to_a_pnp_table(paper, archive, tmp_path):
    code, out, err = paper("run", "-m", "identity", "-o", "out", "--data-root", archive, "-n", "3")
    assert code == 0, err
    assert "profile paper" in err
    assert "512 px" in err
    assert (
        "protocol pnp-v1 (other-" in out
    )  # tiny evaluators are not the official ones, and are said not to be
    assert "CLIP edited" in out
    rows = table(tmp_path / "out")
    assert set(rows) == {"identity"}
    assert rows["identity"]["samples"] == "3"
    assert rows["identity"]["psnr_unedit_part_n"] == "2"  # the full mask is dropped, not counted as 0
    assert float(rows["identity"]["structure_distance"]) > 0  # JPEG
    assert "not the official ones" in err
    assert not (tmp_path / "out" / "report" / "published.md").exists()


def test_zip_and_hub_parquet_go_to_both_tables(paper, small_archive, tmp_path, monkeypatch):
    small(64, monkeypatch)
    make_pie_pp(tmp_path / "pp", side=64)
    (tmp_path / "pp" / "dataset.yaml").write_text(CARD.format("pie-bench-pp"))
    for dataset, root in (("pie", small_archive), ("pie_pp", "pp")):
        code, out, err = paper(
            "run", "-d", dataset, "-m", "piva", "--param", "steps=1", "-o", dataset, "--data-root", root
        )
        assert code == 0, err
        assert f"dataset {dataset} (" in out
        assert table(tmp_path / dataset)["piva"]["samples"] == "12"
        code, out, err = paper("score", dataset, "--protocol", "clean")
        assert code == 0, err
        assert "12 edits scored with clean" in err
        # Beside the first protocol's.
        assert table(tmp_path / dataset)["piva"]["protocol"] == "pnp-v1"
        row = table(tmp_path / dataset, "report/clean")["piva"]
        assert row["protocol"] == "clean"
        assert float(row["lpips_vgg_outside"]) > 0
        assert float(row["clip_directional_vit_l14"]) == pytest.approx(0, abs=1)


def test_what_is_missing_is_said_in_one_line_before_anything_is_edited(
    cli, bench, archive, tmp_path, monkeypatch
):
    for name in ("PIVA_BENCH_MODELS", "PIVA_BENCH_EVALUATORS", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    common = ("run", "--profile", "paper", "-m", "identity", "-o", "out", "-n", "1")
    for arguments, command in (
        (("--data-root", archive), "piva-bench models fetch sd-1.5"),
        (("--data-root", archive, "--model", bench / "model"), "piva-bench models fetch dino-vitb8"),
    ):
        code, _, err = cli(*common, *arguments)
        assert code == EXIT_USER_ERROR
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert command in line
    assert not list((tmp_path / "out").rglob("*.png"))
    monkeypatch.delenv("PIVA_BENCH_DATA_ROOT")
    assert "https://forms.gle" in cli(*common, "--model", bench / "model")[2]


def test_somebody_elses_edits_are_scored(paper, small_archive, tmp_path, monkeypatch):
    import zipfile

    small(64, monkeypatch)
    archive = small_archive
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "sources")
    theirs = tmp_path / "theirs"
    sources = {}
    pictures = sorted((tmp_path / "sources" / "data" / "annotation_images").rglob("*.jpg"))
    for index, path in enumerate(pictures[:10]):
        target = (
            theirs
            / "annotation_images"
            / path.relative_to(tmp_path / "sources" / "data" / "annotation_images")
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        source = sources[path.stem] = np.asarray(Image.open(path))
        if index == 0:  # the official scripts' strip of panels
            Image.fromarray(np.concatenate([source * 0, source * 0, source, source], axis=1)).save(target)
        elif index == 1:
            Image.fromarray(source[:40, :40]).save(target.with_suffix(".png"))
        elif index == 2:  # not a JPEG yet
            Image.fromarray(source).save(target.with_suffix(".png"))
        else:
            shutil.copy(path, target)
    code, out, err = paper("import", theirs, "--data-root", archive, "-o", "run", "--name", "theirs")
    assert code == EXIT_FAILED_SAMPLES
    assert "9 edits taken in from" in err
    assert "2 samples without one, 1 with one that cannot be used" in err
    assert f"unusable: {pictures[1].stem}: " in err
    assert "theirs" in out
    edited = {r["sample_id"]: r for r in records(tmp_path / "run").values() if r["status"] == "ok"}
    errors = {
        name: json.loads((tmp_path / f"run/scores/pnp-v1/{r['key']}.json").read_text())["values"]["mse"]
        for name, r in edited.items()
    }
    # Copies of the sources, JPEG files as they are: no error, as no second compression happens. PNG is compressed.
    copies = {path.stem for path in pictures[3:10]}
    assert [errors[name] for name in copies] == [0] * 7
    assert errors[pictures[2].stem] > 1e-5
    assert "mask use unknown" in out
    row = table(tmp_path / "run")["theirs"]
    assert (row["samples"], row["failed"], row["seconds_per_edit"]) == ("9", "3", "")
    reasons = [r["reason"] for r in records(tmp_path / "run").values() if r["status"] == "failed"]
    assert any("is 40x40 px, not 64x64" in reason for reason in reasons)
    assert sum("holds no edit of this sample" in reason for reason in reasons) == 2
    assert paper("score", "run", "--data-root", archive)[0] == 0  # an imported run is a run
    code, _, err = paper("import", tmp_path / "sources" / "nowhere", "--data-root", archive)
    assert code == EXIT_USER_ERROR
    assert "no folder of edits" in err


def test_a_strip_gives_its_last_panel(tmp_path):
    panels = [np.full((64, 64, 3), value, np.uint8) for value in (10, 90, 170, 250)]
    Image.fromarray(np.concatenate(panels, axis=1)).save(tmp_path / "wide.png")
    Image.fromarray(np.concatenate(panels, axis=0)).save(tmp_path / "tall.png")
    for name in ("wide.png", "tall.png"):
        assert (read_edit(tmp_path / name, 64)[0] == 250).all()


def test_published_tables_have_provenance_and_no_invented_rows():
    rows = published_rows("pnp-v1", "pie-bench")
    assert {"method", "source", "provenance", "protocol", "dataset", "samples"} <= set(rows.columns)
    assert rows["source"].notna().all()
    assert rows["provenance"].notna().all()
    assert not rows["method"].str.contains("piva", case=False).any()
    dds = rows[rows["method"] == "DDS"].iloc[0]
    assert dds["structure_distance"] == pytest.approx(0.01474)
    assert dds["lpips_unedit_part"] == pytest.approx(0.05058)
    assert published_rows("studio-v1", "pie-bench").empty
    assert published_rows("clean", "pie-bench").empty
    assert published_rows("pnp-v1", "pie-bench-pp").empty
    # Within the ranges such values can have: a slip of scale would show.
    assert rows["ssim_unedit_part"].dropna().between(0.5, 1).all()
    assert rows["mse_unedit_part"].dropna().between(0, 0.05).all()
    assert rows["clip_similarity_target_image"].between(15, 35).all()


def test_published_rows_stand_beside_complete_official_runs_only(tmp_path):
    import pandas as pd

    from piva_bench.report.published import beside, to_markdown

    def results(**changes):
        row = {"protocol": "pnp-v1", "fingerprint": "0" * 16, "dataset": "pie", "status": "ok", "variant": "dds",
               "structure_distance": 0.015}  # fmt: skip
        count = changes.pop("count", 700)
        return pd.DataFrame([{**row, **changes, "sample_id": str(i)} for i in range(count)])

    def manifest(name):
        (tmp_path / "manifest.json").write_text(json.dumps({"dataset": {"name": name}}))

    manifest("pie-bench")
    shown = beside(results(), tmp_path)
    assert len(shown.rows) > 20
    text = to_markdown(results(), shown.rows)
    assert "| dds | 15.00 |" in text
    assert "| DDS (SD 1.x) | 14.74 |" in text
    assert beside(results(count=699), tmp_path).rows.empty
    assert "700 samples" in beside(results(count=699), tmp_path).reason
    assert beside(results(fingerprint="other-" + "0" * 16), tmp_path).rows.empty
    assert beside(results(protocol="clean"), tmp_path).rows.empty
    assert beside(results(dataset="folder"), tmp_path).rows.empty
    manifest("studio-pie")
    assert beside(results(), tmp_path).rows.empty
    assert not beside(results(), tmp_path).reason

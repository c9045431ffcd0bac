import numpy as np
import pytest

from piva_bench.errors import DataError, UnknownName
from piva_bench.report.compare import change_markdown, common_variants, find_change, load_side, moved_sheet
from piva_bench.report.results import load_results
from piva_bench.runs.record import ScoreFile
from piva_bench.runs.store import Store
from tests.report.runs import make_run


def rescore(run, values):
    """Replaces a metric of a run's edits by sample."""
    with Store(run) as store:
        for record in store.records().values():
            scores = store.load_scores("studio-v1", record.key)
            changed = {**scores.values, **values(record.sample_id)}
            store.save_scores(record.key, scores.model_copy(update={"values": changed}))


def test_two_methods_of_a_run(run):
    change = find_change(load_side(run, "dds"), load_side(run, "piva"))
    assert ("method", "dds", "piva") in change.setup
    assert not {name for name, _, _ in change.setup} & {"model", "dataset", "resolution"}
    scores = change.scores.set_index("metric")
    assert scores.loc["psnr", "difference"] == 2.0
    assert scores.loc["psnr_outside", "samples"] == 6
    assert scores.loc["stlpips", "difference"] == pytest.approx(2e-4)


def test_the_other_way_round_is_the_negative(run):
    there = find_change(load_side(run, "dds"), load_side(run, "piva")).scores
    back = find_change(load_side(run, "piva"), load_side(run, "dds")).scores
    np.testing.assert_allclose(there["difference"], -back["difference"])
    np.testing.assert_allclose(there["low"], -back["high"])


def test_a_thing_is_no_different_from_itself(run):
    change = find_change(load_side(run, "piva"), load_side(run, "piva"))
    assert change.setup == ()
    assert (change.scores["difference"] == 0).all()
    assert change.moved.empty
    assert "The set-up is the same." in change_markdown(change)


def test_two_runs_with_other_parameters_and_the_samples_that_moved(samples, tmp_path):
    runs = [
        make_run(tmp_path / name, samples, {"piva": 20.0}, params={"weight": weight, **more})
        for name, weight, more in (("a", 0.4, {}), ("b", 0.8, {"steps": 3}))
    ]
    rescore(runs[1], lambda i: {"stlpips": 0.9 if i.endswith("5") else 0.002 + int(i) * 1e-3})
    assert common_variants(*runs) == ["piva"]
    change = find_change(*(load_side(run, "piva") for run in runs))
    assert set(change.setup) == {("parameter weight", "0.4", "0.8"), ("parameter steps", "(none)", "3")}
    assert change.moved.index[0] == "000000000005"
    by_metric = find_change(*(load_side(run, "piva") for run in runs), metric="stlpips")
    assert by_metric.moved.iloc[0] == pytest.approx(0.898)
    sheet = moved_sheet(change, samples, 3)
    assert sheet.height > 3 * 128
    assert moved_sheet(change, {}, 3).width == sheet.width
    with pytest.raises(UnknownName, match="stlpips"):
        find_change(*(load_side(run, "piva") for run in runs), metric="stlpip")


def test_scores_of_unlike_protocols_are_not_compared(samples, tmp_path):
    runs = [make_run(tmp_path / name, samples, {"piva": 20.0}) for name in "ab"]
    with Store(runs[1]) as store:
        for key in store.records():
            scores = store.load_scores("studio-v1", key)
            store.save_scores(key, ScoreFile(**{**scores.model_dump(), "fingerprint": "ffff"}))
    change = find_change(*(load_side(run, "piva") for run in runs))
    assert "fingerprint" in change.obstacle
    assert change.scores.empty
    assert "not compared" in change_markdown(change)


def test_names_that_are_not_there(run, samples, tmp_path):
    with pytest.raises(UnknownName, match="piva"):
        load_side(run, "pivva")
    other = make_run(tmp_path / "other", samples, {"sds": 1.0})
    with pytest.raises(DataError, match="share no method"):
        common_variants(run, other)


def test_the_command(run, tmp_path, monkeypatch, capsys):
    from piva_bench.cli.compare import compare

    monkeypatch.chdir(tmp_path)
    compare("dds", "piva", run=str(run))
    printed = capsys.readouterr().out
    assert "PSNR" in printed
    (folder,) = (tmp_path / "results" / "runs" / "compare").iterdir()
    assert {path.name for path in folder.iterdir()} >= {"compare.md", "dds_vs_piva.csv"}
    compare(str(run), str(run), output_dir=tmp_path / "same")
    assert len(list((tmp_path / "same").glob("*.csv"))) == load_results(run)["variant"].nunique()

import json
import math

import pytest

from piva_bench.errors import DataError, UserError
from piva_bench.report.masks import CONDITIONS
from piva_bench.report.results import SECTIONS, head, load_results
from piva_bench.runs.edit import Edit
from piva_bench.runs.record import ScoreFile
from piva_bench.runs.store import Store
from tests.report.runs import make_record, make_run


def test_one_row_per_record_with_metric_columns(run):
    results = load_results(run)
    assert len(results) == 24
    row = results[(results["method"] == "piva") & (results["sample_id"] == "000000000002")].iloc[0]
    assert (row["psnr"], row["psnr_outside"], row["section"]) == (22.0, 22.0, "method")
    assert set(results[results["method"] == "identity"]["section"]) == {"reference"}
    undefined = results[results["sample_id"] == "000000000003"]
    assert undefined["psnr_outside"].isna().all()
    assert not undefined["psnr"].isna().any()


def test_the_head_says_what_the_numbers_stand_on(run):
    text = " ".join(head(load_results(run)))
    for part in ("embedded", "studio-v1 (aaaabbbbccccdddd)", "studio-sd (fedcba9876543210)",
                 "pie (0123456789abcdef)", "8 samples", "seed 0", "64 px, float32", "cpu"):  # fmt: skip
        assert part in text


def test_the_machine_comes_from_the_manifest(run):
    manifest = {
        "profile": {"protocol": "studio-v1"},
        "runs": [{"environment": {"gpu": None, "processor": "A Chip", "cores": 2}, "variants": []}],
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert "cpu, A Chip (2 cores)" in head(load_results(run))[1]


def test_settings_of_one_method_get_names_that_tell_them_apart(tmp_path, samples):
    for weight in (0.4, 0.8):
        params = {"steps": 100, "preservation_weight": weight}
        make_run(tmp_path, samples, {"piva": 20.0}, params=params)
    make_run(tmp_path, samples, {"dds": 18.0}, params={"steps": 100})
    names = set(load_results(tmp_path)["variant"])
    assert names == {"piva (preservation_weight=0.4)", "piva (preservation_weight=0.8)", "dds"}


def test_a_parameter_that_follows_from_another_is_not_named(tmp_path, samples):
    make_run(tmp_path, samples, {"piva": 20.0}, params={"adapter": "lora"})
    make_run(tmp_path, samples, {"piva": 21.0}, params={"adapter": "controlnet", "depth_control": "aa"})
    assert set(load_results(tmp_path)["variant"]) == {"piva (adapter=lora)", "piva (adapter=controlnet)"}
    make_run(tmp_path, samples, {"piva": 22.0}, params={"adapter": "controlnet", "depth_control": "bb"})
    named = "piva (adapter=controlnet, depth_control={})".format
    assert set(load_results(tmp_path)["variant"]) == {"piva (adapter=lora)", named("aa"), named("bb")}


def test_a_method_that_is_not_installed_is_set_apart(tmp_path, samples):
    make_run(tmp_path, samples, {"somebody_elses": 20.0})
    assert set(load_results(tmp_path)["section"]) == {"unknown"}


def test_failed_edits_are_rows_without_scores(run):
    failed = make_record(
        "sds", "000000000000", "0_random", status="failed", image_sha=None, reason="diverged"
    )
    with Store(run) as store:
        store.commit([Edit(failed)])
    row = load_results(run).query("method == 'sds'").iloc[0]
    assert row["reason"] == "diverged"
    assert math.isnan(row["psnr"])


def test_what_cannot_share_a_table_is_refused(run, tmp_path):
    with pytest.raises(DataError, match="no results"):
        load_results(tmp_path / "nothing")
    results = load_results(run)
    results.loc[0, "model_fingerprint"] = "another"
    with pytest.raises(DataError, match="model_fingerprint"):
        head(results)
    key = results["key"].iloc[0]
    old = ScoreFile(protocol="studio-v1", fingerprint="older", values={"psnr": 1.0})
    Store(run).save_scores(key, old)
    with pytest.warns(UserWarning, match="2 versions of studio-v1: 1 of 24 scores"):
        results = load_results(run)
    assert results["psnr"].isna().sum() == 1
    assert len(head(results)) == 2


def test_without_a_manifest_the_protocol_must_be_clear(run):
    Store(run).save_scores("x", ScoreFile(protocol="clean", fingerprint="f", values={}))
    with pytest.raises(UserError, match="--protocol"):
        load_results(run)
    assert len(load_results(run, "studio-v1")) == 24


def test_a_supervised_method_is_set_apart_and_every_section_has_a_mask_condition(tmp_path, samples):
    make_run(tmp_path, samples, {"instruct_pix2pix": 20.0, "dds": 18.0})
    sections = load_results(tmp_path).groupby("method")["section"].first()
    assert sections.to_dict() == {"instruct_pix2pix": "supervised", "dds": "method"}
    assert list(CONDITIONS) == list(SECTIONS)

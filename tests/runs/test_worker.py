import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from piva_bench.errors import MethodError, UserError
from piva_bench.method import EditOutcome
from piva_bench.runs.request import RunRequest, prepare
from piva_bench.runs.run import run
from piva_bench.runs.store import Store


class Log:
    """A watcher that writes down what it is told."""

    def __init__(self):
        self.batches, self.steps, self.records, self.scores, self.warnings = [], [], [], [], []

    def started(self, todo, headline, workers):
        self.todo, self.headline, self.workers = todo, [metric.name for metric in headline], workers

    def batch_started(self, number, batch):
        self.batches.append([unit.sample.id for unit in batch.units])

    def step(self, number, fraction, scalars):
        self.steps.append(fraction)

    def committed(self, number, record, scores):
        self.records.append(record)
        self.scores.append(scores)

    def batch_ended(self, number):
        pass

    def warn(self, line):
        self.warnings.append(line)


@pytest.fixture
def do(bench, tiny_profile, tmp_path):
    """Runs methods of odd.py; gives the summary and the watcher's log."""

    def go(*methods, **options):
        names = tuple(f"{bench / 'odd.py'}:{name}" if name[0].isupper() else name for name in methods)
        options = {"batch_size": 4, "workers": 1, "output_dir": tmp_path / "out", **options}
        request = RunRequest(methods=names, dataset="pie", data_root=bench / "data", device="cpu", **options)
        log = Log()
        return run(prepare(request), log, ["test"]), log

    return go


def test_a_run_stores_and_scores_every_edit(do, tmp_path):
    summary, log = do("Invert")
    assert [len(batch) for batch in log.batches] == [4, 2]
    assert (summary.computed, len(summary.records), summary.failed) == (6, 6, [])
    assert log.headline == ["brightness"]
    assert log.steps == [pytest.approx(x) for x in (1 / 3, 2 / 3, 1)] * 2
    assert all(scores.values["brightness"] is not None for scores in log.scores)
    record = summary.records[0]
    assert (record.unet_evaluations, record.batch_size, record.edit_type) == (7, 4, "0_random")
    assert record.seconds > 0
    assert record.peak_memory_mb > 50
    assert Store(tmp_path / "out").load_image(record).shape == (32, 32, 3)


def test_the_second_run_computes_nothing(do):
    first, _ = do("Invert")
    second, log = do("Invert")
    assert second.records == first.records
    assert (second.computed, log.todo, log.batches) == (0, 0, [])


def test_overwrite_computes_everything_again(do):
    do("Invert")
    summary, log = do("Invert", overwrite=True)
    assert (summary.computed, log.warnings) == (6, [])


def test_a_larger_limit_adds_only_what_is_missing(do):
    do("Invert", limit=2)
    _, log = do("Invert")
    assert [len(batch) for batch in log.batches] == [4]


def test_pictures_are_quantised_exactly(do, bench, tmp_path):
    """The unchanged source comes back bit for bit, so its distance to the source is exactly zero."""
    from PIL import Image

    summary, _ = do("identity", "counterfactual")
    store = Store(tmp_path / "out")
    for record in summary.records:
        folder = "annotation_images" if record.method == "identity" else "counterfactual_images"
        (path,) = (bench / "data" / folder).rglob(f"{record.sample_id}.png")
        assert np.array_equal(store.load_image(record), np.asarray(Image.open(path)))


def test_a_failed_sample_is_a_record_with_its_reason_and_is_tried_again_apart(do):
    summary, log = do("FailsOne")
    (failed,) = summary.failed
    assert (failed.sample_id, failed.status, failed.reason) == ("s1", "failed", "diverged at step 2")
    assert failed.image_sha is None
    assert sum(scores is None for scores in log.scores) == 1
    again, log = do("FailsOne")
    assert log.batches == [["s1"]]
    assert len(again.failed) == 1


def test_an_exception_in_a_batch_costs_only_its_culprit(do):
    summary, log = do("Breaks")
    (failed,) = summary.failed
    assert failed.sample_id == "s1"
    assert re.fullmatch(r"RuntimeError: cannot do s1 \(odd.py, line \d+\)", failed.reason)
    assert len(log.warnings) == 1
    assert len(summary.records) == 6


def test_a_method_that_breaks_alike_from_the_start_stops_the_run(do):
    with pytest.raises(
        MethodError, match=r"Useless breaks alike on its first 3 edits: KeyError: 'x' \(odd.py, line"
    ):
        do("Useless")


def test_pictures_that_are_no_pictures_fail(do):
    summary, _ = do("NotFinite")
    reasons = {record.sample_id: record.reason for record in summary.failed}
    assert reasons == {
        "s1": "the picture holds values that are not finite",
        "s2": "the picture has the shape (3, 8, 8), not (3, 32, 32): return it at its source's size, resized by the "
        "method if need be",
    }


def test_methods_see_only_what_their_card_claims(do):
    summary, _ = do("Peeks")
    assert not summary.failed


def test_a_torn_source_fails_its_sample_alone(do, bench, tmp_path):
    import shutil

    shutil.copytree(bench / "data", tmp_path / "data")
    (path,) = (tmp_path / "data" / "annotation_images").rglob("s3.png")
    path.write_bytes(path.read_bytes()[:100])
    request = RunRequest(
        methods=("identity",),
        dataset="pie",
        data_root=tmp_path / "data",
        output_dir=tmp_path / "o",
        device="cpu",
        workers=1,
    )
    summary = run(prepare(request), Log(), [])
    (failed,) = summary.failed
    assert failed.sample_id == "s3"
    assert "s3.png" in failed.reason


def test_a_torn_record_and_a_torn_picture_are_computed_again(do, tmp_path):
    first, _ = do("Invert", batch_size=1)
    a, b = first.records[:2]
    (tmp_path / "out" / "records" / f"{a.key}.json").write_text("{")
    (tmp_path / "out" / "images" / f"{b.key}.png").write_bytes(b"torn")
    second, log = do("Invert", batch_size=1)
    assert len(log.warnings) == 2
    assert second.computed == 2
    assert [r.image_sha for r in second.records] == [r.image_sha for r in first.records]


def test_missing_scores_are_made_good(do, tmp_path):
    first, _ = do("Invert")
    path = tmp_path / "out" / "scores" / "pixels-v1" / f"{first.records[0].key}.json"
    before = path.read_bytes()
    path.unlink()
    summary, _ = do("Invert")
    assert (summary.computed, path.read_bytes()) == (0, before)


def test_two_setups_do_not_share_a_directory(do):
    do("Invert")
    with pytest.raises(UserError, match="another set-up .dtype float32, now bfloat16"):
        do("Invert", dtype="bfloat16")


def test_the_manifest_tells_how_the_records_came_about(do, tmp_path):
    import json

    do("FailsOne", limit=2, seeds=(3,))
    do("FailsOne", limit=2, seeds=(3,))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["setup"]["profile"] == "embedded"
    first, second = manifest["runs"]
    assert first["computed"] == 2
    assert (second["computed"], second["reused"], second["failed"]) == (1, 1, 1)
    assert first["variants"][0]["params"] == {"steps": 3}
    assert first["environment"]["packages"]["torch"]
    assert first["finished"]


def test_the_real_methods_run_on_the_same_path(do):
    summary, _ = do("piva", "dds", "sds", "piva_analytic", "vae_roundtrip", limit=2)
    assert not summary.failed
    by_method = {record.method: record for record in summary.records}
    assert set(by_method) == {"piva", "dds", "sds", "piva_analytic", "vae_roundtrip"}
    assert by_method["piva"].unet_evaluations > by_method["dds"].unet_evaluations > 0
    assert by_method["piva"].training_evaluations > 0
    again, log = do("piva", params={"preservation_weight": 0}, limit=2)
    assert log.batches == []
    assert [r.key for r in again.records] == [r.key for r in summary.records if r.method == "dds"]


def test_a_method_that_mixes_its_outcomes_up_is_told_so(do, monkeypatch):
    from methods.identity import Identity

    original = Identity.edit
    monkeypatch.setattr(Identity, "edit", lambda self, *args, **kw: original(self, *args, **kw)[::-1])
    with pytest.raises(UserError, match="one outcome per edit"):
        do("identity")


def test_outcomes_are_timed_by_the_harness(do, monkeypatch):
    from methods.identity import Identity

    original = Identity.edit

    def lie(self, *args, **kw):
        return [replace(outcome, seconds=1e9) for outcome in original(self, *args, **kw)]

    monkeypatch.setattr(Identity, "edit", lie)
    summary, _ = do("identity")
    assert all(record.seconds < 100 for record in summary.records)


def test_a_moved_model_is_the_same_setup(do, bench, tmp_path):
    import shutil

    shutil.copytree(bench / "model", tmp_path / "moved")
    first, _ = do("Invert", limit=1)
    second, log = do("Invert", limit=2, model=str(tmp_path / "moved"))
    assert log.batches == [[second.records[1].sample_id]]
    assert {record.model for record in second.records} == {first.records[0].model}


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_a_batch_too_large_for_the_memory_is_halved_and_loses_nothing(do, monkeypatch, fits):
    sizes = []

    def edit(self, batch, denoiser, seed, on_step=None):
        sizes.append(len(batch))
        if len(batch) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [EditOutcome(task.sample_id, task.source) for task in batch]

    monkeypatch.setattr("methods.identity.Identity.edit", edit)
    summary, log = do("identity")
    assert (len(summary.records), summary.failed) == (6, [])
    # The limit is learnt once: 4, halved as often as need be, then only what fits.
    expected = {1: [4, 2, 1, 1, 1, 1, 1, 1], 2: [4, 2, 2, 2], 3: [4, 2, 2, 2]}
    assert sizes == expected[fits]
    assert len(log.warnings) == {1: 2, 2: 1, 3: 1}[fits]
    assert "at a time from now on" in log.warnings[0]
    assert {record.batch_size for record in summary.records} == {min(fits, 2)}


def test_an_automatic_batch_is_what_memory_has_room_for(do, monkeypatch, tmp_path):
    def edit(self, batch, denoiser, seed, on_step=None):
        filled = torch.ones(25_000_000 * len(batch))  # 100 MB an edit
        return [EditOutcome(task.sample_id, task.source * filled[0]) for task in batch]

    monkeypatch.setattr("methods.dds.DDS.edit", edit)
    found = {}
    for megabytes in (110, 400, 900, 100_000):
        monkeypatch.setattr("piva_bench.runs.batch_size.free_memory", lambda _, mb=megabytes: mb * 10**6)
        out = tmp_path / str(megabytes)
        _, log = do("dds", batch_size="auto", output_dir=out)
        (noted,) = json.loads((out / "manifest.json").read_text())["runs"]
        found[megabytes] = size = noted["edits_together"]
        assert noted["batch_size"] == "auto"
        assert [len(batch) for batch in log.batches] == [min(size, 6 - i) for i in range(0, 6, size)]
    # A share of 0.8, in powers of two: 88 MB, 320 MB, 720 MB, plenty.
    assert found == {110: 1, 400: 2, 900: 4, 100_000: 8}


def test_a_run_that_completes_an_interrupted_one_takes_its_batches(do, monkeypatch, tmp_path):
    def sizes(room):
        monkeypatch.setattr("piva_bench.runs.batch_size.fitting", lambda *_: room)
        _, log = do("Invert", batch_size="auto", overwrite=True)
        return [len(batch) for batch in log.batches]

    assert sizes(2) == [2, 2, 2]
    manifest = tmp_path / "out" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["content_hash"]
    content["runs"][-1]["finished"] = None
    manifest.write_text(json.dumps(content))
    assert sizes(16) == [2, 2, 2]
    assert sizes(16) == [6]


def test_a_setting_that_breaks_in_its_trial_breaks_in_the_run_alone(do):
    summary, log = do("Breaks", batch_size="auto")
    assert len(log.batches[0]) == 6
    assert [record.sample_id for record in summary.failed] == ["s1"]


def test_memory_that_one_edit_alone_exceeds_is_its_reason(do, monkeypatch):
    def edit(self, batch, denoiser, seed, on_step=None):
        torch.empty(1 << 60)

    monkeypatch.setattr("methods.identity.Identity.edit", edit)
    summary, log = do("identity", limit=2)
    assert [record.status for record in summary.records] == ["failed"] * 2
    assert all("allocate" in record.reason for record in summary.records)
    assert "1 at a time from now on" in log.warnings[0]

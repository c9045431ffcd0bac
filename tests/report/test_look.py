import numpy as np
from PIL import Image

from piva_bench.report.gallery.pictures import write_edits
from piva_bench.report.look import edit_look, reference_look, source_look
from tests.tiny_scene_run import scene_run


def test_a_scene_is_shown_from_four_sides_on_its_background(tmp_path):
    store, samples = scene_run(tmp_path)
    (record,) = store.records().values()
    sample = samples[record.sample_id]
    whole = sample.load_turntable().composite()
    # The eight views stand 45 degrees apart; positive azimuths are seen from the right.
    front, right, back, left = whole[0], whole[2], whole[4], whole[6]
    expected = np.concatenate([np.concatenate([front, right], 1), np.concatenate([back, left], 1)])
    assert (np.asarray(source_look(sample)) == expected).all()
    edit = np.asarray(edit_look(sample, store.image_path(record.key)))
    assert (edit == np.asarray(reference_look(sample))).all()  # the run's edit is the counterfactual
    assert (edit != expected).any()


def test_the_gallery_has_the_four_sides_and_leaves_out_what_is_torn(tmp_path):
    store, samples = scene_run(tmp_path)
    (record,) = store.records().values()
    sample = samples[record.sample_id]
    edits = [(record.key, record.image_sha, sample), ("absent", "0" * 64, sample)]
    write_edits(tmp_path / "gallery", store, edits, thumbnails=False)
    with Image.open(tmp_path / "gallery" / "edits" / f"{record.key}.png") as picture:
        assert picture.size == (64, 64)
    assert not (tmp_path / "gallery" / "edits" / "absent.png").exists()

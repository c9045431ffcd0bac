import pytest

from piva_bench.data.dataset import verify
from piva_bench.data.pie_pp import open_pie_pp, read_pie_pp
from piva_bench.errors import DataError
from piva_bench.profiles import get_profile
from tests.data.tiny_pie_pp import make_pie_pp, row


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return make_pie_pp(tmp_path_factory.mktemp("pie_pp"))


def test_samples_have_what_the_rows_hold(copy):
    dataset = open_pie_pp(get_profile("paper"), copy)
    assert (dataset.name, len(dataset.samples), dataset.resolution) == ("pie_pp", 12, 512)
    sample = dataset.samples[0]
    assert sample.edit_type == "0_random"
    assert sample.source_prompt == "a white cat on a mat"
    assert sample.target_prompt == "a red cat on a wooden mat"
    assert sample.instruction == ""
    assert sample.blended_words == (("white", "red"), ("mat", "wooden mat"))
    assert sample.load_source().size == (512, 512)
    mask = sample.load_mask()
    assert mask.sum() == 128 * 128 + 4 * 511  # the square, and PIE-Bench's ring
    assert mask[128:256, 128:256].all()
    assert {s.edit_type for s in dataset.samples} >= {"1_change_object", "9_change_style"}


def test_revision_is_that_of_the_content(copy, tmp_path):
    same = make_pie_pp(tmp_path / "same")
    assert read_pie_pp(copy).revision == read_pie_pp(same).revision
    other = make_pie_pp(tmp_path / "other", {"9_change_style_80": [row(0, target_prompt="a dog")]})
    assert read_pie_pp(copy).revision != read_pie_pp(other).revision


def test_the_embedded_profile_refuses_it(copy):
    with pytest.raises(DataError, match="512 px"):
        open_pie_pp(get_profile("embedded"), copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": "0 5 7"}, "odd number"),
        ({"mask": "0 x"}, "'x', not a whole number"),
        ({"mask": "-1 5"}, "'-1', not a whole number"),
        ({"mask": "999999 5"}, "outside 0..262143"),
        ({"mask": "9" * 5000 + " 1"}, "beyond any picture"),
        ({"source_prompt": ""}, "source_prompt is empty"),
        ({"target_prompt": None}, "target_prompt is None"),
        ({"blended_words": "white,red"}, "no JSON list"),
        ({"blended_words": "[1]"}, "not a list of texts"),
        ({"image": None}, "has no picture"),
        ({"id": None}, "row 0 of 9_change_style_80: id is None"),
    ],
)
def test_what_is_wrong_with_a_row_is_one_line(tmp_path, changes, message):
    make_pie_pp(tmp_path, {"9_change_style_80": [row(0, 16, **changes), row(1, 16)]})
    dataset = read_pie_pp(tmp_path)
    bad, good = dataset.samples
    with pytest.raises(DataError) as caught:
        bad.load_source()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (bad.edit_type, good.edit_type) == ("9_change_style", "9_change_style")
    assert str(caught.value) in [problem.message for problem in verify(dataset)]
    make_pie_pp(tmp_path, {"9_change_style_80": [row(0, 16, **changes)]})
    with pytest.raises(DataError, match="row|sample"):
        open_pie_pp(get_profile("paper"), tmp_path)


def test_verify_says_what_only_loading_shows(tmp_path):
    torn = {"bytes": row(2)["image"]["bytes"][:500], "path": None}
    make_pie_pp(tmp_path, {"0_random_140": [row(0), row(0), row(1, 64), row(2, image=torn)]})
    messages = [problem.message for problem in verify(read_pie_pp(tmp_path))]
    assert any("holds 3 samples, its card says 700" in message for message in messages)
    assert any("the id appears twice" in message for message in messages)
    assert any("is 64x64 px, not 512x512 px" in message for message in messages)
    assert any("is no whole picture" in message for message in messages)


def test_absent_or_torn_copies_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "9_change_style_80").mkdir()
    for content, message in ((None, "no copy of UB-CVML-Group/PIE_Bench_pp"), (b"torn", "cannot be read")):
        if content:
            (tmp_path / "9_change_style_80" / "V1-00000-of-00001.parquet").write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            read_pie_pp(tmp_path)
        assert "\n" not in str(caught.value)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(DataError, match="piva-bench data fetch pie_pp"):
        open_pie_pp(get_profile("paper"), None)

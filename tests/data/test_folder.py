"""The dataset of one's own pictures, and the pictures people have."""

import json

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from piva_bench.data.dataset import verify
from piva_bench.data.folder import open_folder
from piva_bench.data.pictures import fit, fit_mask
from piva_bench.errors import DataError
from piva_bench.profiles import get_profile
from tests.data.test_pie_mutations import check

ROWS = [
    {"image": "a.png", "source_prompt": "a cat", "target_prompt": "a dog", "mask": "a_mask.png"},
    {"image": "sub/b.jpg", "source_prompt": "a cup", "target_prompt": "a red cup", "id": "second",
     "instruction": "make it red", "edit_type": "6_change_attribute_color"},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    Image.fromarray(np.arange(40 * 80 * 3, dtype=np.uint8).reshape(40, 80, 3)).save(tmp_path / "a.png")
    mask = np.zeros((40, 80), np.uint8)
    mask[:, :40] = 255
    Image.fromarray(mask).save(tmp_path / "a_mask.png")
    Image.new("L", (30, 30), 7).save(tmp_path / "sub" / "b.jpg")
    return tmp_path


def write(folder, kind, rows):
    path = folder / f"prompts.{kind}"
    if kind == "csv":
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
        path.write_text("\ufeff" + "\r\n".join(lines))  # as a spreadsheet saves it
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        path.write_text(json.dumps(rows) if kind == "json" else yaml.safe_dump(rows))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "yaml"])
def test_every_kind_of_table_says_the_same(folder, kind):
    write(folder, kind, ROWS)
    dataset = open_folder(get_profile("embedded"), folder)
    first, second = dataset.samples
    assert (first.id, first.target_prompt, first.edit_type) == ("a", "a dog", "own")
    assert (second.id, second.instruction) == ("second", "make it red")
    assert first.load_source().size == (64, 64)
    assert first.load_mask().sum() == 32 * 32  # the left half of a picture that fills half of the square
    assert second.load_mask() is None
    assert second.load_source().mode == "RGB"
    assert not verify(dataset)


def test_revision_follows_prompts_and_files(folder):
    write(folder, "json", ROWS)
    before = open_folder(get_profile("embedded"), folder).revision
    assert open_folder(get_profile("embedded"), folder).revision == before
    Image.new("RGB", (30, 30)).save(folder / "sub" / "b.jpg")
    assert open_folder(get_profile("embedded"), folder).revision != before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"source_prompt": "a", "target_prompt": "b"}, "has no image"),
        ({"image": "../a.png", "source_prompt": "a", "target_prompt": "b"}, "not a plain relative path"),
        ({"image": "a.png", "source_prompt": "a"}, "has no target_prompt"),
        ({"image": "a.png", "prompt": "a", "target_prompt": "b"}, "unknown field 'prompt'"),
        ({"image": "a.png", "source_prompt": 3, "target_prompt": "b"}, "source_prompt is 3, not text"),
        ("a.png", "not a set of named fields"),
    ],
)
def test_what_is_wrong_with_a_row_is_one_line(folder, row, message):
    write(folder, "json", [row])
    with pytest.raises(DataError, match=message) as caught:
        open_folder(get_profile("embedded"), folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, "", "holds no table"),
        ("prompts.csv", "image,source_prompt,target_prompt", "holds no rows"),
        ("prompts.csv", "", "holds no rows"),
        ("prompts.csv", "image,source_prompt\na.png,a", "no column target_prompt: let it name the columns"),
        ("prompts.csv", "a.png,a cat,a dog", "no column image and no source_prompt"),
        ("prompts.csv", "image,source_prompt,target_prompt,notes\na.png,a,b,c", "unknown column 'notes'"),
        ("prompts.csv", "image,image,source_prompt,target_prompt\na,b,c,d", "two columns image"),
        ("prompts.csv", 'image,source_prompt,target_prompt\na.png,"a', "cannot be read as csv"),
        ("prompts.csv", "image,source_prompt,target_prompt\nä.png,a,b".encode("latin-1"), "save it as UTF-8"),
        ("prompts.jsonl", "{", "cannot be read as jsonl"),
        ("prompts.yaml", "a: [", "cannot be read as yaml"),
        ("prompts.json", "{}", "a list of rows is expected"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(tmp_path, name, content, message):
    if name:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        open_folder(get_profile("embedded"), tmp_path)
    assert "\n" not in str(caught.value)


HEAD = "image,source_prompt,target_prompt\n"


@pytest.mark.parametrize(
    "content",
    [
        HEAD + "a.png,a cat,a dog\n",
        HEAD + "a.png,a cat,a dog\n,,\n\n , ,\n",
        "\n" + HEAD + "\na.png,a cat,a dog",
        HEAD.replace(",", ";") + "a.png;a cat;a dog\n",
        HEAD.replace(",", "\t") + "a.png\ta cat\ta dog\n",
        HEAD.replace(",", "|") + "a.png|a cat|a dog\n",
        "sep=;\n" + HEAD.replace(",", ";") + "a.png;a cat;a dog\n",
        "Image, Source Prompt ,TARGET-PROMPT\na.png, a cat , a dog\n",
        HEAD.replace("\n", ",,\n") + "a.png,a cat,a dog,,\n",
        HEAD + "a.png,a cat,a dog,\n",
        HEAD.replace(",", ", ") + 'a.png, "a cat", "a dog"\n',
        (HEAD + "a.png,a cat,a dog\n").replace("\n", "\r"),
        '"image","source_prompt","target_prompt"\r\n"a.png","a cat","a dog"\r\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_as_spreadsheets_write_it(folder, content, encoding):
    (folder / "prompts.csv").write_bytes(content.encode(encoding))
    (sample,) = open_folder(get_profile("embedded"), folder).samples
    assert (sample.id, sample.source_prompt, sample.target_prompt) == ("a", "a cat", "a dog")
    assert sample.load_source().size == (64, 64)


def test_a_comma_in_an_unquoted_prompt_is_not_the_end_of_it(folder):
    rows = 'a.png,a red cup, on a table,a blue cup, on a table\nsub/b.jpg,"a cup, red","a cup, blue"\n'
    (folder / "prompts.csv").write_text(HEAD + rows)
    bad, good = open_folder(get_profile("embedded"), folder).samples
    assert (bad.id, good.id, good.target_prompt) == ("a", "b", "a cup, blue")
    with pytest.raises(
        DataError, match="more cells than columns: a text that holds the separator needs quotes"
    ):
        bad.load_source()
    assert [problem.sample_id for problem in verify(open_folder(get_profile("embedded"), folder))] == ["a"]


def test_json_lines_end_at_line_ends_alone(folder):
    row = {"image": "a.png", "source_prompt": "a\u2028cat\x85\u2029", "target_prompt": "a\u2028dog\x0b"}
    written = [json.dumps(row | {"id": name}, ensure_ascii=False) for name in ("one", "two")]
    for ends in ("\n", "\r\n", "\r"):
        (folder / "prompts.jsonl").write_text("\ufeff" + ends.join(written) + ends + ends, newline="")
        one, two = open_folder(get_profile("embedded"), folder).samples
        assert (one.id, two.id, two.source_prompt) == ("one", "two", "a\u2028cat")


@pytest.mark.parametrize(
    ("written", "stored"), [("\u00fcber.png", "u\u0308ber.png"), ("u\u0308ber.png", "\u00fcber.png")]
)
def test_names_are_compared_as_people_read_them(tmp_path, written, stored):
    (tmp_path / "\u00e9").mkdir()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "\u00e9" / stored)
    write(tmp_path, "json", [{"image": "e\u0301/" + written, "source_prompt": "a", "target_prompt": "b"}])
    dataset = open_folder(get_profile("embedded"), tmp_path)
    assert not verify(dataset)
    before = dataset.revision
    Image.new("RGB", (8, 8), (1, 1, 1)).save(tmp_path / "\u00e9" / stored)
    assert open_folder(get_profile("embedded"), tmp_path).revision != before


def test_a_second_table_is_said_not_to_be_read(folder):
    write(folder, "csv", [ROWS[0]])
    write(folder, "json", ROWS)
    dataset = open_folder(get_profile("embedded"), folder)
    assert len(dataset.samples) == 1
    assert dataset.notes == (f"{folder / 'prompts.json'} is not read: prompts.csv is",)


def test_a_pipe_is_not_waited_for(folder):
    import os

    os.mkfifo(folder / "pipe.png")
    write(folder, "json", [{"image": "pipe.png", "source_prompt": "a", "target_prompt": "b"}])
    (problem,) = verify(open_folder(get_profile("embedded"), folder))
    assert "is no plain file but a pipe or device" in problem.message


def test_verify_finds_missing_torn_and_doubled(folder):
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:200])
    rows = [
        {"image": name, "source_prompt": "a", "target_prompt": "b"}
        for name in ("none.png", "torn.png", "a.png")
    ]
    write(folder, "json", [*rows, rows[-1]])
    messages = [p.message for p in verify(open_folder(get_profile("embedded"), folder, strict=False))]
    assert any("there is no" in message and "none.png" in message for message in messages)
    assert any("torn.png is no whole picture" in message for message in messages)
    assert any("2 rows have this id" in message for message in messages)
    assert sum("2 rows have this id" in message for message in messages) == 1


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 200), height=st.integers(1, 200), side=st.sampled_from([8, 64]))
def test_fitting_keeps_the_whole_picture_and_its_shape(width, height, side):
    picture = Image.new("RGB", (width, height), (10, 200, 30))
    square, frame = fit(picture, side)
    assert square.size == (side, side)
    inner = frame.crop(square)
    assert max(inner.size) == side
    assert abs(inner.width - side * width / max(width, height)) <= 1
    assert np.asarray(square).reshape(-1, 3).tolist() == [[10, 200, 30]] * side**2  # mirrored, not black
    assert (frame.notes == ()) == (width == height == side)


def test_a_mask_is_placed_like_its_picture():
    _, frame = fit(Image.new("RGB", (100, 50)), 64)
    mask = Image.new("L", (100, 50), 255)
    placed = fit_mask(mask, frame)
    assert placed.sum() == 64 * 32
    assert not placed[:16].any()


table = st.sampled_from(["prompts.csv", "prompts.jsonl", "prompts.json", "prompts.yaml"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=table, data=st.data())
def test_mutated_tables(tmp_path, name, data):
    for path in tmp_path.iterdir():
        path.unlink()
    value = st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(["a.png", "../x", "\ud800"])
    rows = data.draw(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(ROWS[0], value)), max_size=3))
    raw = json.dumps(rows).encode()
    cut = data.draw(st.integers(0, len(raw)))
    (tmp_path / name).write_bytes(raw[:cut] + data.draw(st.binary(max_size=6)) + raw[cut:])
    try:
        dataset = open_folder(get_profile("embedded"), tmp_path, strict=False)
    except DataError as error:
        check(error)
        return
    for problem in verify(dataset):
        assert len(problem.message.splitlines()) == 1

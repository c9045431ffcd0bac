"""The PIE-Bench loader: one format, read from folder and archive, with errors that name sample and cure."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from piva_bench.data.dataset import Dataset, verify
from piva_bench.data.pie import open_pie, read_pie
from piva_bench.data.pie_write import write_pie
from piva_bench.data.sample import UnreadableSample
from piva_bench.errors import DataError
from piva_bench.profiles import PROFILES
from tests.data.tiny_pie import CARD, entry, zipped

FIRST = "111000000000"
PROFILE = PROFILES["embedded"].model_copy(update={"resolution": 16})


@pytest.fixture(params=["folder", "zip"])
def copy(request, pie_folder) -> Path:
    return pie_folder if request.param == "folder" else zipped(pie_folder)


def test_reads_samples(copy):
    dataset = open_pie(PROFILE, copy)
    assert isinstance(dataset, Dataset)
    assert (dataset.name, dataset.resolution, len(dataset.samples)) == ("pie", 16, 3)
    sample = dataset.samples[0]
    assert sample.id == FIRST
    assert (sample.source_prompt, sample.target_prompt) == ("a cat on a mat", "a dog on a mat")
    assert sample.edit_type == "1_change_object"
    assert sample.blended_words == (("cat", "dog"),)
    assert dict(sample.tags) == {"held_out": "pair"}
    assert (sample.load_source().size, sample.load_source().mode) == ((16, 16), "RGB")
    pairs = ((sample.load_source(), entry(0).source), (sample.load_reference(), entry(0).reference))
    for loaded, written in pairs:
        assert np.abs(np.asarray(loaded) - written.astype(float)).mean() < 4
    mask = sample.load_mask()
    assert mask[4:8, 3:9].all()
    assert mask[0].all()
    assert not mask[9:15, 1:15].any()
    assert verify(dataset) == []


def test_folder_and_archive_are_the_same_dataset(pie_folder):
    folder, archive = read_pie(pie_folder), read_pie(zipped(pie_folder))
    assert folder.revision == archive.revision
    assert len(folder.revision) == 16


@pytest.mark.parametrize("part", ["mapping_file.json", "annotation_images", "counterfactual_images"])
def test_revision_depends_on_content(pie_folder, part):
    before = read_pie(pie_folder).revision
    assert read_pie(pie_folder).revision == before
    path = pie_folder / "data" / part
    path = next(path.rglob("*.jpg")) if path.is_dir() else path
    path.write_bytes(path.read_bytes() + b"\n")
    assert read_pie(pie_folder).revision != before


def test_a_copy_without_card_is_the_original(tmp_path):
    write_pie(tmp_path, [entry(0, mask=np.ones((512, 512), bool), reference=None)])
    dataset = read_pie(tmp_path)
    assert (dataset.card.name, dataset.resolution) == ("pie-bench", 512)
    assert dataset.samples[0].load_reference() is None
    messages = [problem.message for problem in verify(dataset)]
    assert any("holds 1 samples, its card says 700" in message for message in messages)
    assert any("is 16x16 px, not 512x512 px" in message for message in messages)


def test_wrong_profile_is_refused(pie_folder):
    with pytest.raises(DataError, match="works at 64 px"):
        open_pie(PROFILES["embedded"], pie_folder)


def test_original_cannot_be_shipped(monkeypatch, pie_folder):
    monkeypatch.setattr("piva_bench.paths.data_root", lambda: pie_folder.parent)
    with pytest.raises(DataError, match=r"forms\.gle.*--data-root"):
        open_pie(PROFILES["paper"], None)


@pytest.mark.parametrize("name", ["annotation_images", "counterfactual_images"])
def test_missing_picture_is_the_samples_error(pie_folder, name):
    next((pie_folder / "data" / name).rglob("*00.jpg")).unlink()
    dataset = open_pie(PROFILE, pie_folder)
    assert dataset.revision
    assert [problem.sample_id for problem in verify(dataset)] == [FIRST]
    with pytest.raises(DataError, match=f"sample '{FIRST}'.*is missing: restore"):
        (dataset.samples[0].load_source if name[0] == "a" else dataset.samples[0].load_reference)()


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_torn_picture(copy, pie_folder, content):
    path = next((pie_folder / "data" / "annotation_images").rglob("*00.jpg"))
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    archive = zipped(pie_folder) if copy.suffix else copy
    with pytest.raises(DataError, match=f"sample '{FIRST}'.*no whole picture"):
        read_pie(archive).samples[0].load_source()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": [0, 1, 2]}, "odd number"),
        ({"mask": [257, 1]}, "outside 0..255"),
        ({"mask": [-1, 1]}, "outside 0..255"),
        ({"mask": ["0", 1]}, "'0' at position 0, not an integer"),
        ({"mask": "0 1"}, "a str, not a list"),
        ({"original_prompt": " [] "}, "original_prompt is empty: write it"),
        ({"editing_prompt": 3}, "editing_prompt is 3, not text"),
        ({"editing_prompt": "\ud800"}, "broken character"),
        ({"editing_type_id": "10"}, "editing_type_id is '10'"),
        ({"editing_type_id": 1}, "editing_type_id is 1, not text"),
        ({"image_path": "../../etc/passwd"}, "not a plain relative path"),
        ({"image_path": "/etc/passwd"}, "not a plain relative path"),
        ({"image_path": "C:\\x.jpg"}, "not a plain relative path"),
        ({"image_path": "a\0.jpg"}, "not a plain relative path"),
        ({"tags": ["x"]}, "tags is"),
    ],
)
def test_malformed_entry_names_sample_and_field(edit_mapping, changes, message):
    root = edit_mapping(lambda mapping: mapping[FIRST].update(changes))
    dataset = open_pie(PROFILE, root)
    bad, *others = dataset.samples
    assert bad.id == FIRST
    for load in (bad.load_source, bad.load_mask, bad.load_reference):
        with pytest.raises(DataError) as caught:
            load()
    assert message in str(caught.value)
    assert FIRST in str(caught.value)
    assert "\n" not in str(caught.value)
    # The others are what they were, and the check reports the one beside what else is wrong.
    assert [sample.load_source().size for sample in others] == [(16, 16)] * 2
    assert [(problem.sample_id, problem.message) for problem in verify(dataset)] == [
        (FIRST, str(caught.value))
    ]


@pytest.mark.parametrize(
    "field", ["image_path", "original_prompt", "editing_prompt", "mask", "editing_type_id"]
)
def test_missing_key(edit_mapping, field):
    root = edit_mapping(lambda mapping: mapping[FIRST].pop(field))
    (problem,) = verify(open_pie(PROFILE, root))
    assert f"{FIRST}': has no {field}: add it" in problem.message


def test_only_malformed_entries_are_an_error(edit_mapping):
    root = edit_mapping(lambda mapping: [entry.pop("mask") for entry in mapping.values()])
    with pytest.raises(DataError, match=f"{FIRST}.*has no mask.*2 more like this"):
        open_pie(PROFILE, root)
    assert len(verify(read_pie(root))) == 3


def test_what_the_official_scripts_do_without(edit_mapping):
    def change(mapping):
        first, second, _ = mapping.values()
        del first["blended_word"], first["editing_instruction"]
        second["editing_instruction"] = None
        second["mask"] += [256, 0, 256, 40, 3, -2]

    dataset = open_pie(PROFILE, edit_mapping(change))
    first, second, third = dataset.samples
    assert (first.instruction, first.blended_words, second.instruction) == ("", (), "")
    assert (second.load_mask() == third.load_mask()).all()  # the runs without a pixel change nothing
    assert not verify(dataset)
    assert len(dataset.notes) == 3
    assert (
        f"editing_instruction is missing and taken as empty (as the official scripts do): sample '{FIRST}' and 1 more"
        in (dataset.notes)
    )
    assert any("runs that begin after the last pixel" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f'"{FIRST[:-1]}1"', f'"{FIRST}"', "stands in the mapping file twice"),
        ('"blended_word": "cat dog"', '"mask": []', "holds 'mask' twice"),
    ],
)
def test_what_stands_there_twice_is_the_samples_fault(pie_folder, old, new, message):
    path = pie_folder / "data" / "mapping_file.json"
    path.write_text(path.read_text().replace(old, new, 1))
    dataset = open_pie(PROFILE, pie_folder)
    (problem,) = verify(dataset)
    assert problem.sample_id == FIRST
    assert message in problem.message
    assert len(dataset.samples) in (2, 3)


def test_absent_mask_and_odd_blended_word_are_allowed(edit_mapping):
    root = edit_mapping(
        lambda m: m[FIRST].update(mask=None, blended_word="cat dog mat", editing_instruction="")
    )
    sample = open_pie(PROFILE, root).samples[0]
    assert sample.load_mask() is None
    assert sample.blended_words == (("cat", "dog"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,}', "no JSON at line 1, column"),
        (b"[]", "holds no samples"),
        (b"{}", "holds no samples"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
    ],
)
def test_broken_mapping_file(pie_folder, content, message):
    (pie_folder / "data" / "mapping_file.json").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_pie(pie_folder)
    assert "mapping_file.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_card(pie_folder):
    path = pie_folder / "data" / "dataset.yaml"
    for text, message in (("a: [", "no YAML"), ("name: x", "title: Field required"), ("- 1", "the card")):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_pie(pie_folder)


def test_places_without_a_dataset(tmp_path, pie_folder):
    with pytest.raises(DataError, match="does not exist"):
        read_pie(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no mapping_file\.json"):
        read_pie(tmp_path / "empty")
    (tmp_path / "x.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match="no readable zip"):
        read_pie(tmp_path / "x.zip")
    (pie_folder / "copy").mkdir()
    (pie_folder / "copy" / "mapping_file.json").write_text("{}")
    with pytest.raises(DataError, match="name one folder"):
        read_pie(pie_folder)


def test_archive_with_a_damaged_member(pie_folder):
    archive = zipped(pie_folder)
    with zipfile.ZipFile(archive) as file:
        info = next(i for i in file.infolist() if i.filename.endswith("00.jpg") and i.filename[5] == "a")
    data = bytearray(archive.read_bytes())
    data[info.header_offset + 30 + len(info.filename) + 50] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DataError, match=f"sample '{FIRST}'.*cannot be unpacked"):
        read_pie(archive).samples[0].load_source()


def test_verify_compares_with_the_card(pie_folder):
    card = CARD.model_copy(update={"samples": 4, "revision": "0" * 16})
    write_pie(pie_folder / "data", [entry(0, target_prompt="a [cat] on  a mat")], card)
    messages = [problem.message for problem in verify(read_pie(pie_folder))]
    assert len(messages) == 3
    assert "holds 1 samples, its card says 4" in messages[0]
    assert "its card 0000000000000000" in messages[1]
    assert "nothing to edit" in messages[2]


def test_writer_refuses_a_repeated_id(tmp_path):
    with pytest.raises(ValueError, match="given twice"):
        write_pie(tmp_path, [entry(0), entry(0)])


def test_mapping_is_written_in_the_official_form(pie_folder):
    mapping = json.loads((pie_folder / "data" / "mapping_file.json").read_text())
    assert mapping[FIRST]["original_prompt"] == "a [cat] on a mat"
    assert mapping[FIRST]["mask"][:4] == [4 * 16 + 3, 6, 5 * 16 + 3, 6]


def test_archives_of_other_systems(pie_folder):
    import tarfile

    archive = pie_folder.parent / "windows.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(pie_folder.rglob("*")):
            if path.is_file():
                info = zipfile.ZipInfo("x")
                info.filename = str(path.relative_to(pie_folder)).replace("/", "\\")
                file.writestr(info, path.read_bytes())
    dataset = open_pie(PROFILE, archive)
    assert not verify(dataset)
    assert dataset.revision == read_pie(pie_folder).revision
    with tarfile.open(pie_folder.parent / "pie.tar.gz", "w:gz") as tar:
        tar.add(pie_folder, "pie")
    with pytest.raises(DataError, match="is a tar archive: unpack it and name the folder"):
        read_pie(pie_folder.parent / "pie.tar.gz")


def test_another_mapping_file_is_named_itself_and_borrows_the_masks(pie_folder):
    own = json.loads((pie_folder / "data" / "mapping_file.json").read_text())
    first, second, third = own
    others = {key: {**entry, "original_prompt": f"{key} at length"} for key, entry in own.items()}
    del others[first]["mask"]  # as in DNA-Bench, which has none
    others[second]["mask"] = None
    del others[third]["mask"]
    others[third]["image_path"] = own[first]["image_path"]  # another picture than the copy's under that id
    path = pie_folder / "data" / "long_mapping_file.json"
    path.write_text(json.dumps(others))
    ours, theirs = read_pie(pie_folder), read_pie(path)
    assert theirs.samples[0].source_prompt == f"{first} at length"
    assert theirs.samples[0].mask_rle == ours.samples[0].mask_rle is not None
    assert theirs.samples[1].mask_rle is None
    assert isinstance(theirs.samples[2], UnreadableSample)
    assert "has no mask" in theirs.samples[2].fault
    assert theirs.revision != ours.revision

"""However a mapping file is mangled, the loader gives samples or a one-line DataError.

A few hundred examples as a rule; ``FUZZ_EXAMPLES=10000 pytest tests/data/test_pie_mutations.py`` tries more.
"""

import copy
import json
import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from piva_bench.data.files import FolderFiles
from piva_bench.data.pie import parse_entry, read_pie
from piva_bench.data.pie_pp import RowFiles, parse_row
from piva_bench.errors import DataError
from tests.data.tiny_pie import CARD

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))

ENTRY = {
    "image_path": "1_change_object_80/1_artificial/1_animal/111000000000.jpg",
    "original_prompt": "a [cat] on a mat",
    "editing_prompt": "a [dog] on a mat",
    "editing_instruction": "Change the cat to a dog",
    "editing_type_id": "1",
    "blended_word": "cat dog",
    "mask": [67, 6, 83, 6],
}

ROW = {
    "image": {"bytes": b"picture", "path": None},
    "id": "911000000000",
    "source_prompt": "a [cat]",
    "target_prompt": "a [dog]",
    "edit_action": "{}",
    "aspect_mapping": "{}",
    "blended_words": '["cat,dog"]',
    "mask": "67 6 83 6",
}

text = st.text(max_size=20) | st.sampled_from(["", "[", "..", "/", "a/../b", "\ud800", "\0", "\n", "nul:"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
masks = st.lists(st.integers(-2, 300) | st.sampled_from([10**30, 255, 256, 1.0, None, "3"]), max_size=6)
changes = st.just("drop") | st.tuples(anything | text | masks)
mutation = st.tuples(st.sampled_from([*ENTRY, "tags", "extra"]), changes)
mutants = st.lists(mutation, min_size=1, max_size=3).map(lambda drawn: mutate(ENTRY, drawn))


def mutate(entry, changes):
    result = copy.deepcopy(entry)
    for field, change in changes:
        if change == "drop":
            result.pop(field, None)
        else:
            result[field] = change[0]
    return result


def check(error: DataError) -> None:
    assert str(error)
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 400


@settings(max_examples=EXAMPLES or 300, deadline=None)
@given(key=text, entry=mutants | anything)
def test_mutated_entries(key, entry):
    base = Path("/data/pie")
    try:
        sample = parse_entry(key, entry, base, CARD, FolderFiles(base))
        mask = sample.load_mask()
    except DataError as error:
        check(error)
        return
    assert sample.source_path.is_relative_to(base / "annotation_images")
    assert ".." not in sample.source_path.parts
    assert sample.source_prompt.strip()
    assert "[" not in sample.source_prompt + sample.target_prompt
    assert (sample.id + sample.source_prompt + sample.target_prompt + sample.instruction).encode()
    assert mask is None or mask.shape == (16, 16)


@settings(
    max_examples=EXAMPLES or 100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_mutated_files(tmp_path, data):
    entries = data.draw(st.dictionaries(text, mutants, max_size=3))
    raw = json.dumps(entries).encode()
    if data.draw(st.booleans()):  # tear it or overwrite a stretch of it
        cut = data.draw(st.integers(0, len(raw)))
        raw = raw[:cut] + data.draw(st.binary(max_size=8)) + raw[cut + data.draw(st.integers(0, 50)) :]
    (tmp_path / "mapping_file.json").write_bytes(raw)
    try:
        dataset = read_pie(tmp_path)
    except DataError as error:
        check(error)
        return
    for sample in dataset.samples:
        try:
            sample.load_source()
        except DataError as error:
            check(error)


@settings(max_examples=EXAMPLES or 200, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from(sorted(ROW)), anything | text, max_size=4),
    drop=st.sets(st.sampled_from(sorted(ROW))),
)
def test_mutated_rows_of_pie_pp(changes, drop):
    row = {name: value for name, value in {**ROW, **changes}.items() if name not in drop}
    try:
        sample, picture = parse_row(row, "9_change_style_80", CARD, RowFiles(Path("/data"), {}), "row 0")
        mask = sample.load_mask()
    except DataError as error:
        check(error)
        return
    assert isinstance(picture, bytes)
    assert sample.edit_type == "9_change_style"
    assert "[" not in sample.source_prompt + sample.target_prompt
    assert mask is None or mask.shape == (16, 16)

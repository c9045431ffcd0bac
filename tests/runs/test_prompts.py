"""What a text encoder reads of prompts, against the tokenizer's own truncation."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piva_bench.data.sample import Sample, UnreadableSample
from piva_bench.runs.prompts import PromptReader, cut_notes, marked, same_fault
from tests.tiny_sd import make_tiny_sd


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return PromptReader.of_model(make_tiny_sd(tmp_path_factory.mktemp("model")))


X = "x "
"""One token."""

words = st.text("abc the", max_size=100)


@settings(max_examples=150, deadline=None)
@given(first=words, second=words)
def test_alike_means_that_the_encoder_gets_the_same(reader, first, second):
    read = [
        reader.tokenizer(p, max_length=77, truncation=True, padding="max_length").input_ids
        for p in (first, second)
    ]
    assert reader.alike(first, second) == (
        read[0] == read[1] and reader.tokens(first) != reader.tokens(second)
    )
    assert bool(reader.cut_off(first)) == (
        len(first.replace(" ", "")) > 75 and len(reader.tokens(first)) > 77
    )


def test_what_is_cut_off_is_the_end(reader):
    assert reader.length == 77
    assert reader.cut_off(X * 75) == ""
    assert reader.cut_off(X * 75 + "y z") == "y z"
    assert same_fault(X * 75 + "y", X * 75 + "z", reader)
    assert same_fault(X * 75, X * 75 + "z", reader)
    assert same_fault(X * 74 + "y", X * 74 + "z", reader) is None
    assert same_fault(X * 99, X * 99, reader) is None  # equal as written: said elsewhere


def test_samples_are_marked_and_few_are_named(reader):
    def sample(name, source, target):
        return Sample(name, Path("x"), source, target, "", "own", tags={"a": "b"})

    samples = [sample(str(i), X * 80, "y " * 80) for i in range(4)] + [sample("same", X * 80, X * 75)]
    *others, same = marked(samples, reader)
    assert others == samples[:4]
    assert isinstance(same, UnreadableSample)
    assert (same.id, same.tags, same.target_prompt) == ("same", {"a": "b"}, X * 75)
    lines = cut_notes(samples, reader)
    assert len(lines) == 6
    assert (
        lines[0]
        == "sample '0': the source prompt is longer than the 77 tokens the model reads: 'x x x x x' is cut off"
    )
    assert lines[-1] == "4 more prompts are cut"


def test_models_without_a_text_encoder_to_ask(tmp_path):
    assert PromptReader.of_model(tmp_path) is None
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert PromptReader.of_model(tmp_path / "a.safetensors") is None

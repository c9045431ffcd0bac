import json

import numpy as np
import open_clip
import pytest
import torch

from piva_bench.errors import ModelError
from piva_bench.metrics.clip import PAD, UNKNOWN, CompactTokenizer, SmallClip
from tests.metrics.pictures import PROMPTS, photograph


@pytest.fixture(scope="module")
def clip(evaluators):
    return SmallClip.load(evaluators / "clip")


def test_tokens_map_one_to_one_onto_open_clip_s():
    tokenizer = CompactTokenizer(CompactTokenizer.tokens_of(PROMPTS), 48)
    full = open_clip.get_tokenizer("ViT-B-32", context_length=48)(list(PROMPTS))
    rows = tokenizer(PROMPTS)
    lookup = [PAD, UNKNOWN, *tokenizer.token_ids]
    assert torch.equal(torch.tensor(lookup)[rows], full)
    # open_clip reads a caption at its greatest token: that must stay the end of text.
    assert torch.equal(rows.argmax(1), full.argmax(1))


def test_foreign_words_become_the_unknown_token_and_long_texts_keep_their_end():
    tokenizer = CompactTokenizer(CompactTokenizer.tokens_of(PROMPTS), 12)
    assert (tokenizer(["a zeppelin"]) == UNKNOWN).any()
    long = tokenizer(["a horse " * 30])
    assert long.shape == (1, 12)
    assert long[0, -1] == tokenizer.vocab_size - 1


def test_embeddings_are_unit_length_and_independent_of_the_batch(clip):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    together = clip.encode_images(pictures)
    assert torch.allclose(together.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(together[3], clip.encode_images(pictures[3:4])[0], atol=1e-5)
    assert torch.allclose(clip.encode_texts(PROMPTS).norm(dim=1), torch.ones(2), atol=1e-5)


def test_larger_pictures_are_area_averaged(clip):
    large = np.repeat(np.repeat(photograph(), 4, axis=0), 4, axis=1)
    assert torch.allclose(clip.encode_images([large]), clip.encode_images([photograph()]), atol=1e-5)


def test_a_saved_model_is_an_open_clip_model(evaluators, clip):
    config = json.loads((evaluators / "clip/open_clip_config.json").read_text())
    assert set(config) >= {"model_cfg", "preprocess_cfg", "token_ids"}
    assert isinstance(clip.model, open_clip.CLIP)


def test_missing_or_unfitting_files_are_model_errors(evaluators, tmp_path):
    with pytest.raises(ModelError, match="no usable CLIP"):
        SmallClip.load(tmp_path)
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (tmp_path / name).write_bytes((evaluators / "clip" / name).read_bytes())
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="no usable CLIP"):
        SmallClip.load(tmp_path)

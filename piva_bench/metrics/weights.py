"""Reading weight files of other projects: safetensors, or pickles under ``weights_only``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch
from torch import Tensor

from piva_bench.errors import ModelError

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.pth?$")
"""The torch.hub convention: a file's name ends in the first digits of its SHA-256."""


def load_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file, by name.

    Raises:
        ModelError: the file is missing or torn, holds something else, or is not the one its name promises.
    """
    if promised := _HASH_IN_NAME.search(path.name):
        _check_hash(path, promised.group(1))
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever an unpickler meets in a foreign file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"{path} holds no weights that can be read: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no plain table of weights.")
    return state


def _check_hash(path: Path, promised: str) -> None:
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    if not found.startswith(promised):
        raise ModelError(
            f"{path} is torn or another file: its SHA-256 begins with {found[: len(promised)]}, not {promised}."
        )

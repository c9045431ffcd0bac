"""Fingerprints of models from their files: nothing is loaded, neither weights nor the libraries that read them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from piva_bench.diffusion import single_file

FOLDERS: tuple[str, ...] = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def fingerprint(path: Path) -> str:
    """16 hexadecimal digits over the files that a model is loaded from."""
    return fingerprint_files(single_file.files(path) if path.is_file() else _files(path))


def fingerprint_files(files: Iterable[tuple[str, Path]]) -> str:
    """blake2b, 16 hexadecimal digits, over names and contents of files."""
    digest = hashlib.blake2b(digest_size=8)
    for name, file in files:
        digest.update(f"{name}:{file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    folders = FOLDERS
    if not (path / "unet").is_dir() and (path / "transformer").is_dir():
        folders = tuple(folder.name for folder in path.iterdir() if folder.is_dir())
    for folder in sorted(folders):
        for file in sorted((path / folder).iterdir()):
            if file.suffix in (".json", ".safetensors", ".txt"):
                yield f"{folder}/{file.name}", file


def control_fingerprint(path: Path) -> str:
    """Fingerprint of a ControlNet folder, without loading it."""
    files = sorted(f for f in path.iterdir() if f.name == "config.json" or f.suffix == ".safetensors")
    return fingerprint_files((file.name, file) for file in files)

"""JSON files that tell whether they are as they were written: the last member is a hash of the others.

Files without that member, of older runs and of other tools, are taken as they are.
"""

from __future__ import annotations

import json
from typing import Any

from piva_bench.key import content_key

SEAL = "content_hash"
_lines = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",\n ", ": ")).encode
_dense = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def sealed(content: dict[str, Any], *, lines: bool = True) -> bytes:
    """The content as a JSON file, sealed; every member on a line of its own unless ``lines`` is False.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    whole = {**content, SEAL: content_key(content)}
    # Lines by way of the separator: with an indent json takes its encoder in Python, five times as slow.
    text = f"{{\n {_lines(whole)[1:-1]}\n}}" if lines else _dense(whole)
    # A path that is not text in this system's encoding holds halves of characters; JSON spells them out.
    return f"{text}\n".encode(errors="backslashreplace")


def unsealed(data: bytes) -> dict[str, Any]:
    """The content of a file, without the seal.

    Raises:
        ValueError: it is no JSON object, nested too deeply, or not as it was sealed.
    """
    try:
        content = json.loads(data)
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        seal = content.pop(SEAL, None)
        if seal is not None and seal != content_key(content):
            raise ValueError("changed since it was written")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return content

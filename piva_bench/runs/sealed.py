"""JSON files that tell whether they are as they were written: the last member is a hash of the others.

Files without that member, of older runs and of other tools, are taken as they are.
"""

from __future__ import annotations

import json
from typing import Any

from piva_bench.key import content_key

SEAL = "content_hash"
_spaced = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
_dense = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def sealed(content: dict[str, Any], *, indent: int | None = 1) -> bytes:
    """The content as a JSON file, sealed; a member on a line of its own unless ``indent`` is None.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    whole = {**content, SEAL: content_key(content)}
    if indent is None:
        text = _dense(whole)
    else:
        # A member a line, each by the encoder in C; that of Python, for deeper indents, takes five times as long.
        edge = "\n" + " " * indent
        members = [f"{_spaced(name)}: {_spaced(value)}" for name, value in whole.items()]
        text = f"{{{edge}{f',{edge}'.join(members)}\n}}"
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

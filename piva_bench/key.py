"""Content keys: the name of an edit is a hash of everything that decides its pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY_DIGITS = 32
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def canonical_json(value: Any) -> str:
    """JSON in which equal values have equal text: sorted names, no spaces, no NaN.

    Raises:
        ValueError: the value holds NaN or infinity, which no parameter may be.
    """
    return _encode(value)


def content_key(identity: Mapping[str, Any]) -> str:
    """BLAKE2b of the canonical JSON of ``identity``, in hexadecimal."""
    return hashlib.blake2b(canonical_json(identity).encode(), digest_size=KEY_DIGITS // 2).hexdigest()

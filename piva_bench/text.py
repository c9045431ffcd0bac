"""Text from elsewhere made harmless: control characters are shown, not obeyed."""

from __future__ import annotations

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode's categories of characters that move the cursor, turn the writing round, or show nothing."""
_JOINERS = "\u200c\u200d"
"""Of those the ones that scripts and emoji are written with."""


def printable(text: str) -> str:
    """The text with characters that a terminal or a figure would obey shown by their escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def one_line(text: object) -> str:
    """A message on one line, its control characters shown."""
    return printable(" ".join(str(text).split()))

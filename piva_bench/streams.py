"""Standard output and error as they are: in any encoding, on a full disk, or closed.

What a terminal's encoding lacks is written in plain ASCII, so that no finished work is lost to a table's arrow.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from piva_bench.errors import UserError

HANDLER = "piva-bench"
"""Name of the error handler that writes `EQUIVALENTS`."""

EQUIVALENTS = {
    "±": "+/-", "×": "x", "·": "|", "•": "*", "–": "-", "—": "-", "−": "-", "…": "...", "↑": "^", "↓": "v",
    "→": "->", "←": "<-", "‘": "'", "’": "'", "“": '"', "”": '"', "✓": "yes", "✗": "no", "█": "#", "━": "-",
    "─": "-", "│": "|", "╸": "-", "╺": "-", "⁻": "-", "Δ": "d", "α": "alpha", "σ": "sigma", "ß": "ss",
}  # fmt: skip
"""What stands in for characters that have no decomposition into ASCII."""

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"


def encodable(text: str, encoding: str) -> str:
    """The text as a stream of this encoding will show it; of use where widths are measured before it is written."""
    return text.encode(encoding, HANDLER).decode(encoding)


@contextmanager
def prepared() -> Iterator[None]:
    """Makes the standard streams ready for whatever will be written, and keeps libraries from writing to them.

    Raises:
        UserError: standard output could not be written to. Found here, not after the interpreter's end.
    """
    # For child processes and libraries that are imported later; whoever sets it otherwise means it.
    for library in ("TRANSFORMERS", "DIFFUSERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    # Else Python prints the warnings of loggers that nobody listens to.
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())
    if sys.stdout is None:  # closed by the caller
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for the rest of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in (
            "strict",
            "backslashreplace",
            "surrogateescape",
        ):
            stream.reconfigure(errors=HANDLER)
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.showwarning = _show_own
        try:
            try:
                yield
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read the output has seen enough, as `head` does.
            _drop_output()
            sys.exit(1)
        except OSError as error:
            if not _output_fails():
                raise
            _drop_output()
            raise UserError(f"Cannot write to standard output: {error.strerror or error}.") from error


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Error handler: ASCII equivalents; bytes of names that are not text in this system's encoding as they are."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    if all("\udc80" <= character <= "\udcff" for character in text):
        return bytes(ord(character) - 0xDC00 for character in text), error.end
    written, before = "", error.object[error.start - 1 : error.start]
    for character in text:
        raised = character in _SUPERSCRIPTS and before not in _SUPERSCRIPTS
        written += ("^" if raised else "") + _equivalent(character)
        before = character
    return written, error.end


def _equivalent(character: str) -> str:
    if character in EQUIVALENTS:
        return EQUIVALENTS[character]
    letters = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    return letters if letters.isascii() and letters.isprintable() else "?"


codecs.register_error(HANDLER, _plain)


def _show_own(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows this package's warnings as one line, and none of other libraries'."""
    if Path(filename).is_relative_to(Path(__file__).parent):
        (file or sys.stderr).write(f"warning: {message}\n")


def _output_fails() -> bool:
    """Whether it was standard output that failed: then it fails at the end of a line, too."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """Sends what is still on its way nowhere, or the interpreter would complain of it at its end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # no file of the system's, as in tests

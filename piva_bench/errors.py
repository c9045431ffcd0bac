"""Errors a user can mend. The command line prints their message in one line and exits 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input or a bad environment. The message is one line and names the cure."""


class UnknownName(UserError):
    """A name (method, dataset, profile, parameter ...) that does not exist.

    Args:
        kind: what was looked for, in the singular ("method").
        name: what the user wrote.
        known: the names that exist.
        hint: what else would have been accepted; appended to the message.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        close = difflib.get_close_matches(name.lower(), self.known, n=3, cutoff=0.5)
        everything = ", ".join(self.known) or "none"
        advice = f"Did you mean {' or '.join(close)}?" if close else f"Known: {everything}."
        super().__init__(f"Unknown {kind} '{name}'. {advice}{' ' + hint if hint else ''}")


class DataError(UserError):
    """A dataset, picture or record that is missing, torn or not in the format it claims."""


class ModelError(UserError):
    """A model folder that is missing, incomplete or unsuitable."""


class MethodError(UserError):
    """A method that does not keep to its contract. It would fail alike on every sample, so the run stops."""

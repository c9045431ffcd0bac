"""Names for groups of methods: all of a kind, so that nobody has to list them."""

from __future__ import annotations

from collections.abc import Sequence

from piva_bench.errors import UserError
from piva_bench.profiles import Profile
from piva_bench.registry import METHODS

GROUPS = ("distillation", "sampling", "reference", "all")
"""The kinds of a method's card, and every method there is."""


def members(names: Sequence[str], kind: str, profile: Profile) -> tuple[list[str], list[str]]:
    """Methods with each group replaced by the installed methods in it, and a line for each that is left out.

    Left out is what does not edit this kind, cannot be loaded, or needs a model that is not here. A method that is
    named by itself is never left out: what is wrong with it stops the run.

    Args:
        names: methods and groups, as asked for.
        kind: what is edited; see ``EditMethod.kinds``.
        profile: says which models stand for those that methods name.

    Raises:
        UserError: a group has no member here.
    """
    found: dict[str, None] = {}
    notes: dict[str, None] = {}
    for name in names:
        if name not in GROUPS or name in METHODS.names():
            found[name] = None
            continue
        faults = {member: _fault(name, member, kind, profile) for member in METHODS.names()}
        chosen = [member for member, fault in faults.items() if fault is None]
        found |= dict.fromkeys(chosen)
        notes |= {f"{name}: {member} is left out: {fault}": None for member, fault in faults.items() if fault}
        if not chosen:
            raise UserError(
                f"The group '{name}' has no method that edits {kind}: name methods by themselves."
            )
    return list(found), list(notes)


def _fault(group: str, member: str, kind: str, profile: Profile) -> str | None:
    """Why a method is left out of a group; "" if it is not in it, None if it is."""
    try:
        cls = METHODS.load(member)
        if group not in ("all", cls.card.kind):
            return ""
        if kind not in cls.kinds:
            return f"it edits {' and '.join(cls.kinds)}, not {kind}"
        for model in cls.card.models:
            profile.model_beside(model)
    except UserError as error:
        return str(error)
    return None

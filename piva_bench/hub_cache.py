"""Where the Hugging Face hub keeps what was fetched.

Its own functions for this import its web client and thereby an event loop, a third of a second that `list` and
every start of a run would pay for a look at a folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def snapshot(
    repository: str, revision: str = "main", kind: Literal["model", "dataset"] = "model"
) -> Path | None:
    """The folder of a revision (a commit or a branch) in the hub's cache; None if it is not there.

    An interrupted download leaves a folder that lacks files: callers look for those they need.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"{kind}s--{repository.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    found = folder / "snapshots" / commit
    return found if found.is_dir() else None

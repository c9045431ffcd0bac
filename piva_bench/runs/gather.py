"""What there is of a run elsewhere: in the folders of its shares, and in the object store that its folder follows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from piva_bench.runs.follow import Follower
from piva_bench.runs.inside import Warn, folder_inside
from piva_bench.runs.merge import merge
from piva_bench.runs.request import whole_dir_of
from piva_bench.runs.shard import share_folders

if TYPE_CHECKING:
    from piva_bench.runs.request import Prepared


def gather(prepared: Prepared, warn: Warn) -> Follower | None:
    """Takes into a run's folder what others have made of its plan; what the folder follows, if it does.

    Each share reads the others' folders and the whole's, and writes to its own: shares that are cut another way do
    not make again what is there.

    Raises:
        UserError: what is there is of another set-up, or the address cannot be read.
    """
    keys = {unit.key for unit in prepared.units}
    whole = whole_dir_of(prepared.request)
    others = [whole] if folder_inside(whole, "records") else []
    others += share_folders(whole)
    sources = [folder for folder in others if folder != prepared.output_dir]
    if sources and not prepared.request.overwrite:
        merge(sources, prepared.output_dir, ["shards"], warn, only=keys)
    if prepared.request.address is None:
        return None
    follower = Follower(prepared.request.address, prepared.output_dir, warn)
    if not prepared.request.overwrite:
        follower.fetch(keys, prepared.setup)
    return follower


def take_in_shares(root: Path, warn: Warn) -> int:
    """Takes the edits of a run's shares into its own folder; how many.

    Raises:
        UserError: a share is of another set-up, or the folder cannot be written to.
    """
    shares = share_folders(root)
    return merge(shares, root, ["shards"], warn).taken if shares else 0

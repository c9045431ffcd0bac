"""The manifest: how the records of an output directory came about, and what keeps them comparable."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from piva_bench import __version__
from piva_bench.errors import DataError, UserError
from piva_bench.paths import absolute
from piva_bench.runs.inside import Warn, ignore, read_inside
from piva_bench.runs.record import Setup
from piva_bench.runs.record_files import first_record
from piva_bench.runs.sealed import unsealed

if TYPE_CHECKING:
    from piva_bench.data.dataset import Dataset
    from piva_bench.method import MethodCard
    from piva_bench.profiles import Profile
    from piva_bench.runs.request import Prepared
    from piva_bench.runs.store import Store

FILE = "manifest.json"
# What pixels and scores rest on.
_PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "open_clip_torch",
    "numpy",
    "pillow",
    "scikit-image",
)


class _Content(BaseModel):
    """What is relied on when a manifest is read; it may come from a stranger or be torn."""

    model_config = ConfigDict(extra="forbid", strict=True)

    schema_version: int = 1
    setup: dict[str, Any] = Field(default_factory=dict)
    profile: dict[str, Any] = Field(default_factory=dict)
    dataset: dict[str, Any] = Field(default_factory=dict)
    data_root: Any = None
    runs: list[dict[str, Any]] = Field(default_factory=list)


def read_manifest(root: Path) -> dict[str, Any]:
    """The content of a directory's manifest; empty if there is none.

    Raises:
        DataError: it is torn, or something else lies in its place.
    """
    try:
        content = unsealed(read_inside(root, FILE))
        _Content.model_validate(content)
        if "setup" in content:
            Setup.model_validate(content["setup"])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{root / FILE}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{root / FILE} is torn or no manifest") from error
    return content


class Manifest:
    """``manifest.json`` of an output directory: its setup, and one entry per run that computed something.

    Args:
        root: the output directory.
        warn: told if the manifest is torn. It is then begun anew, with the set-up that the records state.
    """

    def __init__(self, root: Path, warn: Warn = ignore) -> None:
        self.path = root / FILE
        self._content: dict[str, Any] = {}
        self.setup: Setup | None = None
        try:
            self._content = read_manifest(root)
        except DataError as error:
            warn(f"{error}: the set-up is taken from the records")
        if "setup" in self._content:
            self.setup = Setup.model_validate(self._content["setup"])
        elif record := first_record(root):
            self.setup = Setup.model_validate(record.model_dump(include=set(Setup.model_fields)))

    def __bool__(self) -> bool:
        return self.setup is not None

    @property
    def data_root(self) -> Path | None:
        """Where the dataset was read from; None for the embedded copy."""
        root = self._content.get("data_root")
        return Path(root) if root and isinstance(root, str) else None

    def join(self, setup: Setup) -> Setup:
        """The set-up that new records of this directory carry: its own, if it has one, else the given one.

        The two differ at most in where the model lies.

        Raises:
            UserError: they differ in what decides pixels. Unlike records are not mixed in one directory.
        """
        if self.setup is None:
            return setup
        here, there = setup.identity(), self.setup.identity()
        names = sorted({*here, *there})
        differing = [
            f"{name} {there.get(name)}, now {here.get(name)}"
            for name in names
            if here.get(name) != there.get(name)
        ]
        if differing:
            raise UserError(
                f"{self.path.parent} holds results of another set-up ({'; '.join(differing)}): "
                "give another --output-dir."
            )
        return self.setup

    def last_run(self) -> dict[str, Any]:
        """The entry of the last run that made edits here; empty if there is none."""
        runs = self._content.get("runs", [])
        return next((run for run in reversed(runs) if "environment" in run), {})

    def mixed_versions(self) -> list[str]:
        """Packages that edits of this directory were made with several versions of, a line each."""
        found: dict[str, set[str]] = {}
        for run in self._content.get("runs", []):
            stated = run.get("environment")
            named = stated.get("packages") if isinstance(stated, dict) else None
            for name, version_ in (named if isinstance(named, dict) else {}).items():
                found.setdefault(str(name), set()).add(str(version_))
        return [
            f"{self.path.parent} holds edits made with {name} {' and '.join(sorted(versions))}: their last digits may "
            "differ"
            for name, versions in found.items()
            if len(versions) > 1
        ]

    def begin_import(
        self, setup: Setup, profile: Profile, dataset: Dataset, data_root: Path | None, command: list[str],
        origin: dict[str, Any],
    ) -> None:  # fmt: skip
        """Notes that edits made elsewhere are taken in, and whose they are."""
        self._describe(setup, profile, dataset, data_root)
        self._content.setdefault("runs", []).append(
            {
                "command": command,
                "started": _now(),
                "finished": None,
                "variants": [],
                "imported": True,
                "origin": origin,
            }
        )

    def _describe(self, setup: Setup, profile: Profile, dataset: Dataset, data_root: Path | None) -> None:
        self._content |= {
            "schema_version": 1,
            "setup": setup.model_dump(),
            "profile": profile.model_dump(),
            "dataset": dataset.card.model_dump(mode="json"),
            "data_root": str(absolute(data_root)) if data_root else None,
        }

    def take_in(self, other: Manifest) -> None:
        """Adds another directory's runs, before its own; what describes the set-up stays, if there is a description.

        A run is known by its command and start: one that was going on when it was taken in is brought up to date.

        Raises:
            UserError: the other one is of another set-up.
        """
        if other.setup is not None:
            self.setup = self.join(other.setup)
        if not self._content:
            self._content = {**other._content, "runs": []}
            if self.setup is not None:
                self._content["setup"] = self.setup.model_dump()
        own = self._content.get("runs", [])
        places = {_name(run): place for place, run in enumerate(own)}
        new = []
        for run in other._content.get("runs", []):
            place = places.get(_name(run))
            if place is None:
                new.append(run)
            elif not own[place].get("finished"):
                own[place] = run
        self._content["runs"] = [*new, *own]

    def note_merge(self, command: list[str], taken: int) -> None:
        """Notes that edits of other directories were taken in."""
        self._content.setdefault("runs", []).append(
            {"command": command, "started": _now(), "finished": _now(), "variants": [], "merged": taken}
        )

    def begin(self, prepared: Prepared, command: list[str]) -> None:
        """Notes a run that starts."""
        request = prepared.request
        self._describe(prepared.setup, prepared.profile, prepared.dataset, request.data_root)
        variants = [
            {
                "requested": variant.requested,
                "method": variant.name,
                "version": variant.version,
                "params": variant.params_dict(),
                "section": section_of(variant.cls.card),
            }
            for variant in (*prepared.variants, *prepared.references)
        ]
        self._content.setdefault("runs", []).append(
            {
                "command": command,
                "started": _now(),
                "finished": None,
                "variants": variants,
                "params_given": request.params,
                "seeds": list(request.seeds),
                "samples": len(prepared.samples),
                "device": prepared.device,
                "batch_size": request.batch_size,
                "compile": request.compile,
                "channels_last": request.channels_last,
                "environment": environment(),
            }
        )

    def interrupted_batch_size(self, device: str) -> int | None:
        """What memory had room for in the run begun last, if that was not finished: a run that completes it takes
        the same batches, and so makes the same numbers.
        """
        last: dict[str, Any] = (self._content.get("runs") or [{}])[-1]
        interrupted = last.get("finished") is None and last.get("device") == device
        return last.get("edits_together") if interrupted and last.get("batch_size") == "auto" else None

    def note(self, **facts: Any) -> None:
        """Notes what the run begun last has found out."""
        self._content["runs"][-1] |= facts

    def end(self, **counts: Any) -> None:
        """Notes that the run begun last has finished, with its counts."""
        self._content["runs"][-1] |= {"finished": _now(), **counts}

    def save(self, store: Store) -> None:
        """Writes the manifest."""
        store.save_json(FILE, self._content)


def _name(run: dict[str, Any]) -> str:
    return repr((run.get("command"), run.get("started")))


def section_of(card: MethodCard) -> str:
    """Where tables put a method: "reference", "supervised", "mask" or "method"."""
    if card.kind == "reference":
        return "reference"
    return "supervised" if card.supervised else "mask" if card.uses_mask else "method"


def environment() -> dict[str, Any]:
    """The machine and the software a run stands on."""
    import torch

    return {
        "piva_bench": __version__,
        "revision": _git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """Versions of what pixels and scores rest on."""
    return {name: found for name in _PACKAGES if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _git_revision() -> str | None:
    """Commit of the checkout this package runs from, "+" added if it was changed; None if installed."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        commands = (
            ["rev-parse", "HEAD"],
            ["status", "--porcelain", "--untracked-files=no", "piva_bench", "methods"],
        )
        head, changes = (
            subprocess.run(
                ["git", "-C", str(checkout), *command], capture_output=True, text=True, check=True, timeout=20
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changes else "")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

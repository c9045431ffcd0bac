"""How the values of options are read: lists, parameters, configuration files, run directories."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from piva_bench.errors import UnknownName, UserError

if TYPE_CHECKING:
    from piva_bench.data.sample import Sample
    from piva_bench.profiles import Profile
    from piva_bench.runs.inside import Warn


def split(values: Iterable[str]) -> list[str]:
    """Flattens repeated options whose values are comma-separated: ["a,b", "c"] is ["a", "b", "c"]."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def parse_seeds(values: Iterable[str]) -> list[int]:
    """Seeds from comma-separated numbers.

    Raises:
        UserError: one is no number, or negative.
    """
    parts = split(values)
    for part in parts:
        if not part.isdecimal():
            raise UserError(f"--seed {part}: a seed is a whole number from 0.")
    return [int(part) for part in parts]


def parse_count(option: str, text: str) -> int | Literal["auto"]:
    """A number of something, or "auto".

    Raises:
        UserError: it is neither.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal() or not int(text):
        raise UserError(f"{option} {text}: give a whole number from 1, or auto.")
    return int(text)


def positive(option: str, number: float | None) -> float | None:
    """A number above 0, or None.

    Raises:
        UserError: another one.
    """
    if number is not None and not 0 < number < math.inf:
        raise UserError(f"{option} {number:g}: give a number above 0.")
    return number


def parse_numbers(option: str, text: str) -> list[int]:
    """Whole numbers from 1, comma-separated.

    Raises:
        UserError: something else.
    """
    numbers = split([text])
    if wrong := [one for one in numbers if not one.isdecimal() or not int(one)]:
        raise UserError(f"{option} {wrong[0]}: give whole numbers from 1, comma-separated.")
    return [int(one) for one in numbers]


def parse_params(values: Iterable[str]) -> dict[str, Any]:
    """Method parameters from ``name=value``; values are read as YAML (0.4, true, adam).

    Raises:
        UserError: no ``=``, or a name given twice.
    """
    import yaml

    params: dict[str, Any] = {}
    for item in values:
        name, equals, text = item.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise UserError(f"--param {item}: write name=value, for example preservation_weight=0.4.")
        if name in params:
            raise UserError(f"--param {name} is given twice.")
        try:
            params[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            params[name] = text
    return params


def parse_grid(values: Iterable[str]) -> dict[str, list[Any]]:
    """Values by parameter from ``name=v1,v2,...``; each is read as YAML.

    Raises:
        UserError: no ``=``, no value, or a name given twice.
    """
    grid: dict[str, list[Any]] = {}
    for item in values:
        name, equals, text = item.partition("=")
        # A list in a configuration file arrives in YAML's brackets.
        parts = split([text.strip().removeprefix("[").removesuffix("]")])
        if not equals or not parts:
            raise UserError(f"--param {item}: write name=value,value, for example preservation_weight=0,0.4.")
        for index, part in enumerate(parts):
            ((key, value),) = parse_params([f"{name}={part}"]).items()
            if index == 0 and key in grid:
                raise UserError(f"--param {key} is given twice.")
            grid.setdefault(key, []).append(value)
    return grid


def check_prompts(source: str, target: str, model: Path) -> list[str]:
    """Refuses prompts that ask for nothing.

    Args:
        source: what is there.
        target: what shall be.
        model: folder or file of the model that reads them.

    Returns:
        What the model does not read of them, a line each.

    Raises:
        UserError: one is empty or no text, or they are the same, as written or as far as they are read.
    """
    from piva_bench.runs.prompts import PromptReader, cut_line, same_fault, unknown_line

    prompts = {"source": source, "target": target}
    for name, prompt in prompts.items():
        check_text(f"The {name} prompt", prompt)
        if not prompt.strip():
            raise UserError(f"The {name} prompt is empty: write it.")
    if source.split() == target.split():
        raise UserError("Source and target prompt are the same: nothing to edit.")
    reader = PromptReader.of_model(model)
    if reader is None:
        return []
    if fault := same_fault(source, target, reader):
        raise UserError(f"The {fault}.")
    lines = [
        say(f"the {name} prompt", prompt, reader)
        for name, prompt in prompts.items()
        for say in (cut_line, unknown_line)
    ]
    return [line for line in lines if line]


def check_text(what: str, text: str) -> None:
    """Refuses an argument that is not in the system's encoding, which Python hands on as halves of characters.

    Raises:
        UserError: names it.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{what} is no UTF-8 text: {ascii(text)[:80]}.") from None


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the options of a YAML file the defaults of the command line; the callback of --config.

    Raises:
        UserError: no such file, no YAML mapping, or an option that does not exist.
    """
    if path is None:
        return None
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--config {path}: {getattr(error, 'strerror', None) or 'not a text file'}."
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"--config {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"--config {path}: write one 'option: value' a line, for example 'method: piva'.")
    repeatable = {option.name: getattr(option, "multiple", False) for option in context.command.params}
    known = {name for name in repeatable if name} - {"config"}
    defaults: dict[str, Any] = {}
    for option, value in content.items():
        name = str(option).replace("-", "_")
        if name not in known:
            raise UnknownName(
                f"option in {path}", str(option), [option.replace("_", "-") for option in known]
            )
        typed = _as_typed(value)
        defaults[name] = [typed] if repeatable[name] and not isinstance(typed, list) else typed
    context.default_map = defaults
    return path


def _as_typed(value: Any) -> Any:
    """A YAML value as it would have been typed: lists of texts, mappings as name=value."""
    import yaml

    def text(item: Any) -> str:
        return item if isinstance(item, str) else yaml.safe_dump(item, default_flow_style=True).split("\n")[0]

    if isinstance(value, dict):
        return [f"{name}={text(item)}" for name, item in value.items()]
    if isinstance(value, list):
        return [text(item) for item in value]
    return value


def place_of(output_dir: str | None) -> tuple[Path | None, str | None]:
    """The folder that is meant by --output-dir, and the address that it follows where that is one."""
    from piva_bench.address import is_address
    from piva_bench.runs.follow import following_folder

    if output_dir is None:
        return None, None
    if is_address(output_dir):
        return following_folder(output_dir), output_dir
    return Path(output_dir), None


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run, or shares of one."""
    from piva_bench.runs.shard import share_folders

    return (folder / "records").is_dir() or bool(share_folders(folder))


def run_folders(given: str) -> list[Path]:
    """The folders that a run's edits are in: its own and those of its shares; nothing is written.

    Raises:
        UserError: it holds no run.
    """
    from piva_bench.runs.shard import share_folders

    folder = Path(given)
    if not holds_run(folder):
        raise UserError(f"{folder} holds no run: give the --output-dir of a `piva-bench run`.")
    return [*([folder] if (folder / "records").is_dir() else []), *share_folders(folder)]


def run_directory(given: str | None, warn: Warn) -> Path:
    """The folder of the run a command works on: the one given, or the only one below ``results/runs``.

    Edits of its shares are taken in, and those at an address fetched, which is said.

    Raises:
        UserError: it holds no run, or there is none or more than one to choose from.
    """
    from piva_bench.runs.follow import Follower
    from piva_bench.runs.gather import take_in_shares

    folder, address = place_of(given)
    if folder is None:
        below = Path("results/runs")
        runs = [path for path in sorted(below.iterdir()) if holds_run(path)] if below.is_dir() else []
        if len(runs) != 1:
            found = f"there are {', '.join(map(str, runs))}" if runs else "there is none below results/runs"
            raise UserError(f"Which run? Give its output directory: {found}.")
        folder = runs[0]
    if address:
        fetched = Follower(address, folder, warn).fetch()
        typer.echo(f"{fetched} edits fetched from {address} into {folder}", err=True)
    if not holds_run(folder):
        raise UserError(f"{address or folder} holds no run: give the --output-dir of a `piva-bench run`.")
    if taken := take_in_shares(folder, warn):
        typer.echo(f"{taken} edits of shards taken into {folder}", err=True)
    return folder


def open_run(directory: Path, data_root: Path | None, warn: Warn) -> tuple[Profile, dict[str, Sample]]:
    """The profile of a stored run, and the samples by id of the dataset it edited.

    Args:
        directory: the run's output directory.
        data_root: where the dataset is now, if it has moved.
        warn: told if the manifest is torn.

    Raises:
        UserError: no manifest and no record, or the dataset is not the one that was edited.
    """
    from piva_bench.profiles import get_profile
    from piva_bench.registry import DATASETS
    from piva_bench.runs.kinds import kind_of_samples
    from piva_bench.runs.manifest import Manifest

    manifest = Manifest(directory, warn)
    if manifest.setup is None:
        raise UserError(f"{directory} holds no results: give the --output-dir of a `piva-bench run`.")
    profile = get_profile(manifest.setup.profile)
    dataset = DATASETS.load_installed(manifest.setup.dataset)(profile, data_root or manifest.data_root)
    if dataset.revision != manifest.setup.dataset_revision:
        raise UserError(
            f"{directory} edited {manifest.setup.dataset} at revision {manifest.setup.dataset_revision}, this copy is "
            f"{dataset.revision}: name the right one with --data-root."
        )
    profile = profile.for_kind(kind_of_samples(dataset.samples).name)
    return profile, {sample.id: sample for sample in dataset.samples}

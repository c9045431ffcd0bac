"""The options of the commands, as annotated types.

Every option can also be set by an environment variable ``PIVA_BENCH_<OPTION>``; those of ``run`` in a file given
by --config, too. The command line wins over the environment, the environment over the file.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from piva_bench.cli.values import read_config
from piva_bench.paths import absolute
from piva_bench.text import one_line


class Blend(StrEnum):
    """When edits are blended with the source outside the mask."""

    end = "end"
    steps = "steps"


class Executor(StrEnum):
    """Where workers are."""

    local = "local"
    ray = "ray"


class Dtype(StrEnum):
    """Precision of the networks."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def _option(panel: str | None, name: str, *short: str, help: str, **more: Any) -> Any:
    """An option with its environment variable, under a heading of the help page."""
    variable = "PIVA_BENCH_" + name.strip("-").upper().replace("-", "_")
    return typer.Option(
        name, *short, help=help, envvar=variable, show_envvar=False, rich_help_panel=panel, **more
    )


def say_files(value: Any) -> Any:
    """Says of each method that is given as a file that its code is run."""
    for name in [value] if isinstance(value, str) else value or ():
        for one in name.split(","):
            if (file := one.strip().rpartition(":")[0]).endswith(".py"):
                typer.echo(f"runs the code in {one_line(file)}, as --method asks for", err=True)
    return value


_WHAT, _HOW, _WHERE = "What to run", "How to run it", "Where things are"

Method = Annotated[
    list[str],
    _option(
        _WHAT,
        "--method",
        "-m",
        callback=say_files,
        help="Methods, comma-separated: names from `piva-bench list`, file.py:Class, or (run) a group: distillation, "
        "sampling, reference, all.",
    ),
]
Dataset = Annotated[str, _option(_WHAT, "--dataset", "-d", help="Dataset, from `piva-bench list`.")]
ProfileName = Annotated[
    str, _option(_WHAT, "--profile", "-p", help="Backbone, resolution and metrics: embedded or paper.")
]
Param = Annotated[
    list[str] | None,
    _option(
        _WHAT,
        "--param",
        metavar="NAME=VALUE",
        help="Parameter of the methods that have it; see `piva-bench describe method`.",
    ),
]
Limit = Annotated[
    int | None,
    _option(_WHAT, "--limit", "-n", min=1, help="Only this many samples, spread over the edit types."),
]
SampleIds = Annotated[list[str] | None, _option(_WHAT, "--sample", help="Only these samples (ids).")]
Seed = Annotated[list[str] | None, _option(_WHAT, "--seed", help="Seeds, comma-separated.", show_default="0")]

Device = Annotated[
    str, _option(_HOW, "--device", help="cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.")
]
Precision = Annotated[Dtype, _option(_HOW, "--dtype", help="Precision of the networks.")]
BatchSize = Annotated[
    str,
    _option(_HOW, "--batch-size", "-b", help="Edits computed together; auto takes what memory has room for."),
]
Workers = Annotated[
    str,
    _option(
        _HOW,
        "--workers",
        help="Processes: auto is one for each core (of one thread each) or GPU; 1 keeps all in this one "
        "(with --timeout, in one beside it).",
    ),
]
ExecutorName = Annotated[
    Executor,
    _option(_HOW, "--executor", help="Where workers are: on this machine, or on a Ray cluster (extra ray)."),
]
RayAddress = Annotated[
    str | None,
    _option(
        _HOW,
        "--ray-address",
        metavar="HOST:PORT",
        help="Of the Ray cluster.",
        show_default="RAY_ADDRESS, else this machine",
    ),
]
Timeout = Annotated[
    float | None,
    _option(
        _HOW,
        "--timeout",
        metavar="SECONDS",
        help="Longest that a batch may take, its scores included; its edits then fail with that reason.",
        show_default="no limit",
    ),
]
MaxHours = Annotated[
    float | None,
    _option(
        _HOW,
        "--max-hours",
        metavar="HOURS",
        help="Stop after so long, as Ctrl-C does: finished batches are stored, exit code 130.",
        show_default="no limit",
    ),
]
Snapshots = Annotated[
    str | None,
    _option(
        _WHAT,
        "--snapshots",
        metavar="STEPS,...",
        help="Also file the edits after these numbers of steps, at no cost: 25,50,100.",
    ),
]
MaskBlend = Annotated[
    Blend | None,
    _option(
        _WHAT,
        "--mask-blend",
        help="Put the source back outside each sample's edit mask: in the finished picture (end), or of distillation "
        "in the latents after every step (steps). Such edits are filed and ranked apart.",
    ),
]
NoReference = Annotated[
    bool,
    _option(
        _WHAT,
        "--no-reference",
        help="Leave out the reference rows: the unchanged source, the VAE round trip, the counterfactual.",
    ),
]
Shard = Annotated[
    str | None,
    _option(
        _WHAT,
        "--shard",
        metavar="i/N",
        help="Only every N-th sample from the i-th on, counted from 0; into a folder of its own, see merge.",
        show_default="as Slurm or torchrun say",
    ),
]
Compile = Annotated[
    bool, _option(_HOW, "--compile", help="Compile the UNet's transformer blocks; takes a minute, for a GPU.")
]
ChannelsLast = Annotated[
    bool, _option(_HOW, "--channels-last", help="Lay the UNet's pictures out for a GPU's convolutions.")
]
Overwrite = Annotated[bool, _option(_HOW, "--overwrite", help="Compute edits again that are stored already.")]
KeepFields = Annotated[
    bool, _option(_HOW, "--keep-fields", help="Of 3D edits, also store the edited radiance field.")
]
DryRun = Annotated[
    bool, _option(_HOW, "--dry-run", help="Print the plan and how long it will take; store nothing.")
]
FailAbove = Annotated[
    float,
    _option(_HOW, "--fail-above", min=0, max=1, help="Exit with 3 if a larger fraction of edits failed."),
]

OutputDir = Annotated[
    str | None,
    _option(
        _WHERE,
        "--output-dir",
        "-o",
        help="Where results go: a folder, or an address (s3://bucket/run).",
        show_default="results/runs/<profile>-<dataset>",
    ),
]
Model = Annotated[
    str | None,
    _option(
        _WHERE,
        "--model",
        help="Alias (sd-1.5, sd3-medium, flux-dev ...: `piva-bench models list`), diffusers folder or .safetensors.",
        show_default="the profile's model",
    ),
]
DataRoot = Annotated[
    Path | None,
    _option(
        _WHERE,
        "--data-root",
        help="Folder or archive of the dataset; of scenes also a list's name or YAML.",
        show_default="the embedded copy",
    ),
]


def _use_evaluators(folder: Path | None) -> Path | None:
    """Puts the folder where models are looked for, in this process and those it starts."""
    if folder is not None:
        os.environ["PIVA_BENCH_EVALUATORS"] = str(absolute(folder))
    return folder


Evaluators = Annotated[
    Path | None,
    _option(
        _WHERE,
        "--evaluators",
        callback=_use_evaluators,
        help="Folder of the models that metrics measure with; see `piva-bench models list`.",
        show_default="~/.cache/piva-bench/evaluators",
    ),
]
Config = Annotated[
    Path | None,
    _option(
        _WHERE,
        "--config",
        "-c",
        callback=read_config,
        is_eager=True,
        help="YAML file of options, one 'limit: 8' a line; the command line wins over it.",
    ),
]

RunDirectory = Annotated[
    str | None,
    typer.Argument(
        help="Output directory of a run, or its address.", show_default="the only one below results/runs"
    ),
]
Protocol = Annotated[
    str | None, _option(None, "--protocol", help="Metric protocol.", show_default="the profile's")
]

# Of commands that make a single edit. No environment variables: those may hold lists.
OneMethod = Annotated[str, typer.Option("--method", "-m", callback=say_files, help="Name or file.py:Class.")]
OneModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Alias (sd-1.5, sd3-medium, flux-dev ...: `piva-bench models list`), diffusers folder or .safetensors.",
        show_default="the embedded model",
    ),
]
Instruction = Annotated[
    str, typer.Option("--instruction", help="The edit as an order, for methods that read one.")
]
OneSeed = Annotated[int, typer.Option("--seed", help="Another seed, another edit.")]

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

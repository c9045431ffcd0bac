"""``piva-bench doctor``: what of an installation works here, in plain words."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from piva_bench.errors import UserError
from piva_bench.text import one_line

EXTRAS = {
    "s3": ("s3fs", "runs at s3:// addresses, in merge"),
    "ray": ("ray", "--executor ray, workers on a cluster"),
    "viewer": ("viser", "piva-bench view3d, radiance fields in a browser"),
    "nerfstudio": ("nerfstudio", "scenes of ns-train, and ns-train piva"),
    "video": ("imageio_ffmpeg", "turntables as MP4; GIF needs nothing"),
}
PACKAGES = ("torch", "diffusers", "transformers", "peft", "numpy", "pillow")
ROOM = 5
"""GiB that a run of a few hundred pictures with their report stays below."""


def doctor() -> None:
    """Check the installation: what runs here, what is missing and how to get it, what each extra would add.

    Ends with 2 if something is broken.
    """
    broken = 0
    for title, check in CHECKS.items():
        try:
            lines = list(check())
        except Exception as error:  # a broken installation breaks anywhere; the other checks go on
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            lines = [f"BROKEN: {kind}{one_line(error)}"]
        broken += any(line.startswith("BROKEN") for line in lines)
        for line in lines:
            typer.echo(f"{title}: {line}")
    typer.echo(f"{broken} of {len(CHECKS)} checks found something broken" if broken else "all is well")
    if broken:
        raise typer.Exit(2)


def _software() -> Iterator[str]:
    yield f"Python {sys.version.split()[0]}"
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"BROKEN: {name} is not installed: pip install piva-bench again"


def _device() -> Iterator[str]:
    import torch

    if not torch.cuda.is_available():
        yield f"no GPU; runs use the processor, with {torch.get_num_threads()} threads"
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        yield f"cuda:{index} {torch.cuda.get_device_name(index)}, {free >> 30} of {total >> 30} GiB free"


def _model() -> Iterator[str]:
    from piva_bench.profiles import EMBEDDED_MODEL, resolve_model
    from piva_bench.runs.request import model_fingerprint

    path = resolve_model(EMBEDDED_MODEL)
    yield f"the embedded model is complete: {path}, {model_fingerprint(path)[:8]}"


def _dataset() -> Iterator[str]:
    from piva_bench.profiles import get_profile
    from piva_bench.runs.request import open_dataset

    dataset = open_dataset("pie", get_profile("embedded"), None)
    dataset.samples[0].load_source()
    yield f"the embedded dataset is complete: {len(dataset.samples)} tasks, revision {dataset.revision[:8]}"


def _plugins() -> Iterator[str]:
    from piva_bench.registry import DATASETS, METHODS, PROTOCOLS

    for registry in (METHODS, DATASETS, PROTOCOLS):
        for name in registry.names():
            try:
                registry.load(name)
            except UserError as error:
                yield f"BROKEN: {one_line(error)}"
        yield f"{len(registry.names())} {registry.kind}s can be loaded"


def _disk() -> Iterator[str]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield f"{free:.0f} GiB free here" + (f"; a full run with pictures may need {ROOM}" if free < ROOM else "")


def _extras() -> Iterator[str]:
    for extra, (module, adds) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield f"{extra} is not installed; pip install 'piva-bench[{extra}]' would add {adds}"
        else:
            yield f"{extra} is installed: {adds}"


CHECKS: dict[str, Callable[[], Iterator[str]]] = {
    "software": _software,
    "device": _device,
    "model": _model,
    "dataset": _dataset,
    "plug-ins": _plugins,
    "disk": _disk,
    "extras": _extras,
}

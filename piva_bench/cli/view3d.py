"""``piva-bench view3d``: radiance fields in a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from piva_bench.cli import options
from piva_bench.paths import absolute

EXAMPLES = """
[bold]Examples[/bold]

piva-bench view3d cup-piva/field.safetensors

piva-bench view3d cup-dds/field.safetensors cup-piva/field.safetensors --size 512

piva-bench view3d results/runs/embedded-objaverse/fields/*.safetensors --port 0

[bold]Good to know[/bold]

Needs viser: pip install 'piva-bench\\[viewer]'. Drag to turn, drag with the right button to move, scroll to come
nearer. Pictures are coarse while the camera moves. Each page has a camera and a choice of its own.

On a machine elsewhere leave --host as it is and forward the port: ssh -L 8080:127.0.0.1:8080 HOST. With --host 0.0.0.0
anyone who reaches the machine can look.
"""


def view3d(
    fields: Annotated[
        list[Path],
        typer.Argument(
            metavar="FIELD...", help="Fields: field.safetensors of edit3d, fields/*.safetensors of a run."
        ),
    ],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    size: Annotated[
        int, typer.Option("--size", min=16, max=2160, help="Height of the pictures in pixels.")
    ] = 256,
    device: options.Device = "auto",
) -> None:
    """Look at radiance fields from all sides, in a browser: colour, depth or alpha."""
    from piva_bench.runs.request import resolve_device
    from piva_bench.scene.field import RadianceField
    from piva_bench.scene.viewer import Viewer

    device = resolve_device(device)
    loaded = {name: RadianceField.load(path).to(device) for name, path in names_of(fields).items()}
    viewer = Viewer(loaded, host, port, size)
    shown = "1 field" if len(loaded) == 1 else f"{len(loaded)} fields"
    try:
        typer.echo(f"{viewer.url} shows {shown}, rendered on {device}; Ctrl-C ends it.")
        _wait()
    except KeyboardInterrupt:
        viewer.close()


def names_of(paths: list[Path]) -> dict[str, Path]:
    """The files by what tells them apart: their paths below the folder that all lie in."""
    common = os.path.commonpath([absolute(path).parent for path in paths])
    return {str(absolute(path).relative_to(common)): path for path in paths}


def _wait() -> None:
    import threading

    threading.Event().wait()

"""``piva-bench render3d``: radiance fields along a path of cameras, as a film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from piva_bench.cli import options, values
from piva_bench.cli.view3d import names_of
from piva_bench.errors import UnknownName, UserError

EXAMPLES = """
[bold]Examples[/bold]

piva-bench render3d cup-piva/field.safetensors -o cup.mp4

piva-bench render3d cup-dds/field.safetensors cup-piva/field.safetensors --show colour,depth,normals -o cup.gif

piva-bench render3d cup-piva/field.safetensors --camera-path camera_path.json -o flight.mp4

[bold]Good to know[/bold]

Fields are those of edit3d (field.safetensors) and of runs with --keep-fields (fields/*.safetensors). A camera path is
the file that nerfstudio's viewer exports; it is taken in the field's own coordinates, z up. MP4 needs an encoder:
pip install 'piva-bench\\[video]'; GIF needs nothing.
"""


def render3d(
    fields: Annotated[
        list[Path],
        typer.Argument(
            metavar="FIELD...", help="Fields: field.safetensors of edit3d, fields/*.safetensors of a run."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The film: .mp4 or .gif.")],
    camera_path: Annotated[
        Path | None,
        typer.Option(
            "--camera-path", help="camera_path.json of nerfstudio's viewer.", show_default="a turntable"
        ),
    ] = None,
    show: Annotated[
        str, typer.Option("--show", help="What is shown, comma-separated: colour, depth, alpha, normals.")
    ] = "colour",
    frames: Annotated[int, typer.Option("--frames", min=2, max=3600, help="Of the turntable.")] = 72,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=16,
            max=2160,
            help="Height of the pictures in pixels.",
            show_default="the camera path's; of a turntable 256",
        ),
    ] = None,
    device: options.Device = "auto",
) -> None:
    """Film radiance fields from a turntable or along a camera path, side by side: colour, depth, alpha or normals."""
    from piva_bench.runs.request import resolve_device
    from piva_bench.scene.animation import write_turntable
    from piva_bench.scene.camera_path import read_camera_path, turntable
    from piva_bench.scene.field import RadianceField
    from piva_bench.scene.viewer import Show, pictures

    wanted = values.split([show])
    for name in wanted:
        if name not in list(Show):
            raise UnknownName("thing to show", name, list(Show))
    device = resolve_device(device)
    loaded = {name: RadianceField.load(path).to(device) for name, path in names_of(fields).items()}
    first = next(iter(loaded.values()))
    if camera_path is not None:
        cameras, seconds = read_camera_path(camera_path, size)
    elif not first.open.any():
        raise UserError(f"{fields[0]} is empty: give it a --camera-path.")
    else:
        cameras, seconds = turntable(first, frames, size or 256), 6.0
    columns = {
        name if len(wanted) == 1 else f"{name} {each}": pictures(field, cameras, Show(each))
        for name, field in loaded.items()
        for each in wanted
    }
    try:
        written = write_turntable(output, columns, seconds=seconds)
    except OSError as error:
        raise UserError(f"Cannot write {output}: {error.strerror or error}.") from error
    typer.echo(f"{written}: {len(cameras)} frames of {cameras.width}x{cameras.height} px, {seconds:.3g} s")

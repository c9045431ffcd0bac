"""``piva-bench edit``: one picture, two prompts, one method."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from piva_bench.cli import options, values
from piva_bench.errors import UserError
from piva_bench.files import atomic_file
from piva_bench.paths import absolute

if TYPE_CHECKING:
    from PIL import Image

    from piva_bench.data.pictures import Frame
    from piva_bench.runs.single import SingleEdit

EXAMPLES = """
[bold]Examples[/bold]

piva-bench edit cup.jpg "a photo of a white cup" "a photo of a red cup" --model sd-1.5

piva-bench edit cup.jpg "a white cup" "a red cup" --method dds --param steps=100 --animation cup.gif

piva-bench edit cup.jpg "a white cup" "a red cup" --param preservation_weight=0.8 --seed 3 -o red.png

[bold]Good to know[/bold]

The source prompt describes the picture as it is; the target prompt is the same sentence with only the wanted
change made. The more the two differ, the more will change. A larger preservation_weight keeps more of the
source; `piva-bench describe method piva` explains every parameter.

Without --model the small embedded model is used. It knows toy-like product photographs and nothing else: for
photographs of the world take sd-1.5 (`piva-bench models fetch sd-1.5`, and a GPU).
"""

_OUT = "What to save"


def edit(
    picture: Annotated[Path, typer.Argument(help="The picture: any size, any kind Pillow opens.")],
    source_prompt: Annotated[str, typer.Argument(help="What it shows.")],
    target_prompt: Annotated[str, typer.Argument(help="What it shall show.")],
    instruction: options.Instruction = "",
    method: options.OneMethod = "piva",
    model: options.OneModel = None,
    param: options.Param = None,
    seed: options.OneSeed = 0,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=8, help="Long side in pixels while editing.", show_default="the model's own"
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Picture, bright where to edit; for methods that read one.")
    ] = None,
    device: options.Device = "auto",
    dtype: options.Precision = options.Dtype.float32,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The edit.", show_default="<picture>-<method>.png", rich_help_panel=_OUT
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option(help="Also save source and edit side by side.", rich_help_panel=_OUT)
    ] = True,
    animation: Annotated[
        Path | None,
        typer.Option(
            "--animation", help="Also save how the edit came about, as a GIF.", rich_help_panel=_OUT
        ),
    ] = None,
) -> None:
    """Edit one picture: say what it shows and what it shall show."""
    from piva_bench.cli.progress import step_bars
    from piva_bench.mask_reader import to_mask
    from piva_bench.profiles import EMBEDDED_MODEL, resolve_model
    from piva_bench.runs import single
    from piva_bench.runs.request import resolve_device

    target = output or Path(f"{picture.stem}-{method.rpartition(':')[2]}.png")
    _check_output(picture, target, animation)
    chosen = single.variant_for(method, values.parse_params(param or []), model in (None, EMBEDDED_MODEL))
    path = resolve_model(model or EMBEDDED_MODEL)
    for line in values.check_prompts(source_prompt, target_prompt, path):
        typer.echo(line, err=True)
    image = single.open_picture(picture)
    mask_image = single.open_picture(mask) if mask else None
    if mask_image is not None:
        typer.echo(f"the mask marks {to_mask(mask_image).mean():.1%} of its picture", err=True)
    device = resolve_device(device)

    import torch

    from piva_bench.diffusion.load import load_denoiser

    denoiser = load_denoiser(path, device=device, dtype=getattr(torch, dtype.value))
    chosen.attach_models(denoiser, single.profile_of(model in (None, EMBEDDED_MODEL)))
    start = time.monotonic()
    with step_bars(("editing", chosen.method().steps)) as (on_step,):
        result = single.edit_one(
            image, chosen, denoiser, source_prompt, target_prompt, instruction=instruction, seed=seed, size=size,
            mask=mask_image, keep_frames=animation is not None, prepared=_say,
            on_step=on_step and (lambda progress: on_step(progress.index, progress.scalars)),
        )  # fmt: skip
    written = _save(result, target, compare, animation)
    typer.echo(
        f"{chosen.cls.card.title}, {time.monotonic() - start:.1f} s on {device}: "
        f"{', '.join(map(str, written))} ({result.edited.width}x{result.edited.height} px)"
    )


def _say(frame: Frame) -> None:
    if frame.notes:
        typer.echo(f"the picture was {'; '.join(frame.notes)}", err=True)


def _check_output(picture: Path, target: Path, animation: Path | None) -> None:
    """Before seconds of editing: would the results have a place?"""
    if target.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"--output {target}: end it in .png, .jpg or .webp.")
    if animation is not None and animation.suffix.lower() != ".gif":
        raise UserError(f"--animation {animation}: end it in .gif.")
    for path in (target, animation):
        if path is None:
            continue
        if absolute(path) == absolute(picture):
            raise UserError(f"{path} is the picture itself: give another name.")
        if not absolute(path).parent.is_dir():
            raise UserError(f"There is no folder {path.parent} to write {path.name} into.")


def _save(result: SingleEdit, target: Path, compare: bool, animation: Path | None) -> list[Path]:
    written = [target]
    try:
        _write(result.edited, target)
        if compare:
            written.append(target.with_name(f"{target.stem}-compare.png"))
            _write(result.side_by_side(), written[-1])
        if animation is not None:
            written.append(animation)
            first, *others = result.animation()
            _write(first, animation, save_all=True, append_images=others, duration=120, loop=0)
    except OSError as error:
        raise UserError(f"Cannot write {written[-1]}: {error.strerror or error}.") from error
    return written


def _write(picture: Image.Image, path: Path, **options: Any) -> None:
    """Writes a picture wholly or not at all, in the format of the path's ending."""
    from PIL import Image

    with atomic_file(absolute(path)) as file:
        picture.save(file, format=Image.registered_extensions()[path.suffix.lower()], **options)

"""``piva-bench edit3d``: one scene or 3D model of one's own, two prompts, one method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from piva_bench.cli import options, values
from piva_bench.errors import UserError

EXAMPLES = """
[bold]Examples[/bold]

piva-bench edit3d --scene cup.glb --source-prompt "a white cup" --target-prompt "a red cup" --model sd-1.5

piva-bench edit3d --scene nerf_synthetic/lego -m dds --source-prompt "a yellow toy" --target-prompt "a red toy"

piva-bench edit3d --scene teddy.glb --source-prompt "a photo of a teddy bear" \
--target-prompt "a photo of a blue teddy bear" --param views=4 --param field_learning_rate=0.1 -o blue

[bold]Good to know[/bold]

A scene is a NeRF-synthetic folder, a nerfstudio capture (transforms.json) or a model file (GLB, glTF, OBJ, PLY, STL),
which is photographed from all sides first. A radiance field is fitted once (a minute on two cores for the embedded
model's size) and kept; edits of the same scene start from it. z is up. Of pictures without transparency the colour at
their border is taken for the background, unless --background names another.

field_room says how many voxels beyond its surface the scene may grow, preservation_weight how much of it is kept;
adapter=controlnet makes Piva's two scores see the depth. `piva-bench describe method piva` explains the others.

mesh.glb opens in Blender, three.js and MeshLab. Of a model's file model.glb is the file itself, with the triangles that
the edit touched replaced. `piva-bench view3d` shows field.safetensors, render3d films it. The same command again
goes on with an edit that was killed.

Without --model the small embedded model is used, which knows toy-like studio photographs and nothing else.
"""

_OUT = "What to save"

Colour = tuple[float, float, float]
WHITE: Colour = (1.0, 1.0, 1.0)


def edit3d(
    scene: Annotated[
        Path,
        typer.Option("--scene", help="Folder or file of a capture (transforms*.json), or a 3D model's file."),
    ],
    source_prompt: Annotated[str, typer.Option("--source-prompt", help="What the scene shows.")],
    target_prompt: Annotated[str, typer.Option("--target-prompt", help="What it shall show.")],
    instruction: options.Instruction = "",
    method: options.OneMethod = "piva",
    model: options.OneModel = None,
    param: options.Param = None,
    seed: options.OneSeed = 0,
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            help="What is behind the scene: red,green,blue from 0 to 1.",
            show_default="white; of pictures without transparency the colour at their border",
        ),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Precision = options.Dtype.float32,
    frames: Annotated[
        int, typer.Option("--frames", min=4, max=720, help="Views of the turntable.", rich_help_panel=_OUT)
    ] = 120,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for turntable.gif (source and edit side by side), views.png, depth.png and normals.png "
            "(sheets of the edit's views), mesh.glb and mesh.ply, model.glb, and field.safetensors.",
            show_default="<scene>-<method>",
            rich_help_panel=_OUT,
        ),
    ] = None,
) -> None:
    """Edit one 3D scene: say what it shows and what it shall show."""
    from piva_bench.cli.progress import step_bars
    from piva_bench.profiles import EMBEDDED_MODEL, get_profile, resolve_model
    from piva_bench.registry import METHODS
    from piva_bench.runs.request import resolve_device
    from piva_bench.runs.single import check_edits
    from piva_bench.runs.variants import resolve_variants

    given = None if background is None else _colour(background)
    embedded = model in (None, EMBEDDED_MODEL)
    profile = get_profile("embedded" if embedded else "paper").for_kind("scenes")
    check_edits(METHODS.load(method).card)
    (variant,) = resolve_variants([method], values.parse_params(param or []), profile, "scenes")
    path, device = resolve_model(model or EMBEDDED_MODEL), resolve_device(device)
    for line in values.check_prompts(source_prompt, target_prompt, path):
        typer.echo(line, err=True)
    target = output or Path(f"{scene.stem}-{method.rpartition(':')[2]}")

    import torch

    from piva_bench.diffusion.load import load_denoiser
    from piva_bench.runs import single_scene
    from piva_bench.scene import sources
    from piva_bench.scene.params import FieldEditParams

    denoiser = load_denoiser(path, device=device, dtype=getattr(torch, dtype.value))
    variant.attach_models(denoiser, profile)
    assert isinstance(variant.follow, FieldEditParams)
    opened = sources.open_scene(scene, variant.follow.view_size or denoiser.resolution, frames)
    for line in opened.notes:
        typer.echo(line, err=True)
    colour = _behind(given, opened.background)
    chosen = variant.cls(variant.params)
    stages = (
        ("fitting the field", variant.follow.fit_steps),
        ("editing", chosen.steps),
    )
    with step_bars(*stages) as (on_fit, on_step):
        result = single_scene.edit_scene(
            opened, chosen, variant.follow, denoiser, source_prompt, target_prompt, seed=seed,
            background=colour, folder=target, instruction=instruction, on_fit=on_fit,
            on_step=on_step and (lambda progress: on_step(progress.index, progress.scalars)),
            side_words=sources.STUDIO_SIDE_WORDS if embedded else sources.SIDE_WORDS,
        )  # fmt: skip
    written = result.save(target, colour, lambda line: typer.echo(line, err=True))
    if not any(path.name == "mesh.glb" for path in written):
        typer.echo("no mesh is written: nothing in the edited field is opaque", err=True)
    typer.echo(
        f"{variant.cls.card.title}, {result.seconds:.1f} s on {device}: {', '.join(map(str, written))}"
    )


def _behind(given: Colour | None, measured: Colour | None) -> Colour:
    """What is behind the scene; where that is a guess, or a strange choice, it is said."""
    if measured is None:
        return given or WHITE
    shown = ",".join(f"{part:.3g}" for part in measured)
    if given is None and measured != WHITE:
        typer.echo(f"the pictures' border is {shown}: taken for the background (--background)", err=True)
    if given is not None and max(abs(a - b) for a, b in zip(given, measured, strict=True)) > 0.1:
        typer.echo(
            f"the pictures' border is {shown}, not --background's colour: the difference becomes fog",
            err=True,
        )
    return given or measured


def _colour(text: str) -> Colour:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"--background {text}: give red,green,blue, for example 1,1,1 for white.") from error
    if not all(0 <= part <= 1 for part in (red, green, blue)):
        raise UserError(f"--background {text}: give values from 0 to 1.")
    return red, green, blue

"""``piva-bench studio``: rebuild the embedded world: its pictures, its dataset and its models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from piva_bench.paths import (
    data_root,
    embedded_model_dir,
    studio_classifier_dir,
    studio_clip_dir,
    studio_depth_dir,
    studio_ip2p_dir,
)

app = typer.Typer(
    help="Rebuild the embedded world. Nothing here is needed to run the benchmark.",
    no_args_is_help=True,
    epilog="Order: render, train autoencoder, diffusion, classifier, clip; evaluate; train controlnet; "
    "pairs, train ip2p, evaluate-ip2p.",
)

Renders = Annotated[Path, typer.Option(help="Folder of the training pictures and checkpoints (large).")]
RENDERS = Path("studio-renders")
Validation = Annotated[
    bool, typer.Option("--validation", help="The validation set instead of the one that is reported.")
]


class Model(StrEnum):
    """What can be trained."""

    autoencoder = "autoencoder"
    decoder = "decoder"
    diffusion = "diffusion"
    classifier = "classifier"
    clip = "clip"
    controlnet = "controlnet"
    ip2p = "ip2p"


@app.command()
def objects(
    archive: Annotated[Path, typer.Argument(help="Unpacked BlendSwap-CC-0.sh3f of sweethome3d-furniture.")],
) -> None:
    """Import the CC0 models as GLB files in the studio's frame."""
    from piva_bench.studio.import_objects import import_objects

    import_objects(archive, data_root() / "studio" / "objects")


@app.command()
def pie(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the dataset.", show_default="datasets/pie")
    ] = None,
    new_seed: Annotated[
        int | None, typer.Option(help="Draw other edit tasks from this seed: another dataset.")
    ] = None,
    validation: Validation = False,
) -> None:
    """Photograph the embedded PIE-Bench again: sources, counterfactuals and masks of its planned scenes."""
    from piva_bench.data.validation import PIE
    from piva_bench.studio.build_pie import COUNTS, VALIDATION_COUNTS, build, photograph_plan
    from piva_bench.studio.held_out import held_out_compositions
    from piva_bench.studio.scene import composition_key, training_scenes

    folder = out or data_root() / (PIE if validation else "pie")
    if new_seed is None:
        photograph_plan(folder)
    elif validation:
        taken = held_out_compositions(without=PIE)
        taken |= {composition_key(scene) for scene in training_scenes(0, 30_000, taken)}
        build(folder, new_seed, shown=taken, counts=VALIDATION_COUNTS)
    else:
        build(folder, new_seed, counts=COUNTS)


@app.command()
def objaverse(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the dataset.", show_default="datasets/objaverse/studio")
    ] = None,
    new_seed: Annotated[
        int | None, typer.Option(help="Choose sets and wording anew from this seed: another dataset.")
    ] = None,
    validation: Validation = False,
) -> None:
    """Photograph the embedded 3D set again: fitting views, turntables and counterfactuals of its planned scenes."""
    from piva_bench.data.validation import SCENES
    from piva_bench.studio.build_objaverse import build, photograph_plan

    folder = out or data_root() / (SCENES if validation else "objaverse/studio")
    if new_seed is None:
        photograph_plan(folder)
    else:
        build(folder, new_seed, validation=validation)


@app.command()
def failures(
    archive: Annotated[
        Path | None,
        typer.Option(help="Import the objects again from the unpacked BlendSwap-CC-0.sh3f first."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the dataset.", show_default="datasets/failure_modes")
    ] = None,
) -> None:
    """Photograph the failure-mode set again: transparent, reflecting and thin objects, edited in 3D."""
    from piva_bench.studio.failure_modes import import_failures, photograph_failures

    folder = out or data_root() / "failure_modes"
    if archive is not None:
        import_failures(archive, folder / "objects")
    photograph_failures(folder)


@app.command()
def render(
    renders: Renders = RENDERS,
    count: Annotated[int, typer.Option(min=1, help="Number of pictures.")] = 30_000,
    seed: Annotated[int, typer.Option(help="Decides scenes and captions.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Render the training pictures and their depth; a second call finishes what is missing."""
    from piva_bench.studio.held_out import held_out_compositions
    from piva_bench.studio.render_training import render_training

    render_training(renders, count, seed=seed, held_out=held_out_compositions(), workers=workers)


@app.command()
def pairs(
    renders: Renders = RENDERS,
    count: Annotated[int, typer.Option(min=1, help="Number of pairs.")] = 30_000,
    seed: Annotated[int, typer.Option(help="Decides edits and instructions.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Render pictures and their exact edits, with instructions, for ip2p; a second call finishes what is missing."""
    from piva_bench.studio.edit_pairs import render_pairs
    from piva_bench.studio.held_out import held_out_compositions

    render_pairs(renders, count, seed=seed, held_out=held_out_compositions(), workers=workers)


@app.command()
def train(
    model: Annotated[Model, typer.Argument(help="Which model.")],
    minutes: Annotated[float, typer.Option(min=0, help="Budget, earlier runs counted.")],
    renders: Renders = RENDERS,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore the checkpoint and start anew.")] = False,
) -> None:
    """Train one of the embedded models; killed and run again, it goes on from its last checkpoint.

    On two cores, both: torchrun --nproc-per-node 2 --no-python piva-bench studio train ...
    """
    resume = not fresh
    if model is Model.autoencoder:
        from piva_bench.studio import train_autoencoder

        train_autoencoder.train(renders, embedded_model_dir() / "vae", minutes, seed, resume)
    elif model is Model.decoder:
        from piva_bench.studio import train_autoencoder

        train_autoencoder.refine_decoder(renders, embedded_model_dir() / "vae", minutes, seed, resume)
    elif model is Model.diffusion:
        from piva_bench.studio import train_diffusion

        train_diffusion.train(renders, embedded_model_dir(), minutes, seed, resume)
    elif model is Model.classifier:
        from piva_bench.studio import train_classifier

        train_classifier.train(renders, studio_classifier_dir(), minutes, seed, resume)
    elif model is Model.controlnet:
        from piva_bench.studio import train_controlnet

        train_controlnet.train(renders, embedded_model_dir(), studio_depth_dir(), minutes, seed, resume)
    elif model is Model.ip2p:
        from piva_bench.studio import train_ip2p

        train_ip2p.train(renders, embedded_model_dir(), studio_ip2p_dir(), minutes, seed, resume)
    else:
        from piva_bench.studio import train_clip

        train_clip.train(renders, studio_clip_dir(), minutes, seed, resume)


@app.command()
def evaluate(
    count: Annotated[int, typer.Option(min=1, help="Held-out prompts.")] = 200,
    training_count: Annotated[
        int, typer.Option(help="Size of the training set the prompts must avoid.")
    ] = 30_000,
    guidance_scale: Annotated[float, typer.Option(help="Classifier-free guidance.")] = 5.0,
    eta: Annotated[float, typer.Option(min=0, max=1, help="Noise that DDIM adds.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Which prompts; only those of seed 0 go into the card.")] = 0,
    sheet: Annotated[Path | None, typer.Option(help="Where to put a contact sheet of the samples.")] = None,
) -> None:
    """Sample held-out prompts and let the attribute classifier judge them."""
    import json

    from piva_bench.studio.evaluate_diffusion import evaluate as judge

    report = judge(
        embedded_model_dir(), studio_classifier_dir(), training_count, count, sheet, guidance_scale, eta, seed
    )
    typer.echo(json.dumps(report, indent=2))


@app.command()
def evaluate_ip2p(
    count: Annotated[int, typer.Option(min=1, help="Held-out instructions.")] = 200,
    guidance_scale: Annotated[float, typer.Option(help="Guidance of the text.")] = 7.5,
    image_guidance_scale: Annotated[float, typer.Option(help="Guidance of the picture.")] = 1.5,
    seed: Annotated[int, typer.Option(help="Which instructions; only those of seed 0 go into the card.")] = 0,
    sheet: Annotated[
        Path | None, typer.Option(help="Where to put a contact sheet: source, edit, exact edit.")
    ] = None,
) -> None:
    """Have held-out instructions carried out, and let the attribute classifier judge them."""
    import json

    from piva_bench.studio.evaluate_ip2p import evaluate as judge
    from piva_bench.studio.held_out import held_out_compositions

    report = judge(
        studio_ip2p_dir(), studio_classifier_dir(), held_out_compositions(), count, sheet, guidance_scale,
        image_guidance_scale, seed,
    )  # fmt: skip
    typer.echo(json.dumps(report, indent=2))

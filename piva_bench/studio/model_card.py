"""The embedded model's card: what it is, how it was trained, and what was measured, from its own reports."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import fill
from typing import Any

REPORT = "studio-report.json"
"""Lies in the model's folder; each training and evaluation replaces its own part."""

CARD = """\
---
license: cc0-1.0
library_name: diffusers
pipeline_tag: text-to-image
---
# studio-sd

A latent diffusion model of the studio world: 64 px pictures of 27 objects on coloured sets. It is made of Stable
Diffusion's own classes (`UNet2DConditionModel`, `AutoencoderKL`, `CLIPTextModel`, `CLIPTokenizer`, SD's schedule) at
a size that edits in seconds on two CPU cores, and opens with `StableDiffusionPipeline.from_pretrained`. It knows
nothing but the studio: no photograph and no other model's output was used.

Trained on renders of `piva_bench.studio` (`piva-bench studio render`), none of which shows a composition of the
embedded PIE-Bench or one of the held-out pairs of object and colour or material. 10 % of the captions are dropped;
the shipped weights are exponential averages in fp16.

## Training

{training}

## Measured

Autoencoder, round trip of held-out renders: {psnr} dB over the whole picture, {psnr_object} dB inside the object.

Obedience: {prompts} prompts of held-out compositions, {sampler}, guidance scale {guidance_scale}; the share of pictures
in which a classifier trained on renders alone reads what the prompt says. Beside it, the same classifier on true
renders of the same scenes, and on their autoencoder round trips: what a perfect generator could reach.

{accuracy}

Colour, material and print are not counted in sketches and sepia pictures, colour not where none is named.

Regenerate: `piva-bench studio evaluate`.
"""

CONTROL_CARD = """\
---
license: cc0-1.0
library_name: diffusers
---
# studio-depth

A depth ControlNet (`ControlNetModel`) for `studio-sd`, the embedded model of the studio world. It is shown the things
of a scene without their set: inverse depth, stretched over the picture so that the nearest is 1, with 0 where there is
nothing. So it can be given what a radiance field of an object renders.

It serves the model of fingerprint `{model}` alone; its training began with the model `{began_with}`.
Trained on {pictures} renders and their depth (`piva-bench studio render`), {steps} steps of {batch_size} in {minutes}
minutes; half the captions are dropped. The shipped weights are exponential averages in fp16.

## Measured

Loss of the noise prediction on held-out renders, the same noise throughout, weighted as in training:

| shown | loss |
|---|---|
| the picture's own depth | {depth} |
| another picture's depth | {other_depth} |
| no depth: `studio-sd` by itself | {no_depth} |

Regenerate: `piva-bench studio train controlnet --minutes {minutes} --fresh`. With `--minutes 0` the shipped weights are
taken over for the present `studio-sd` and measured with it, as they are.
"""

INSTRUCTION_CARD = """\
---
license: cc0-1.0
library_name: diffusers
pipeline_tag: image-to-image
---
# studio-ip2p

An InstructPix2Pix (arXiv 2211.09800) of the studio world: it is shown a 64 px picture and told an order ("paint the
horse red"). It opens with `StableDiffusionInstructPix2PixPipeline.from_pretrained`, and has two guidance scales.

**It is a supervised editor.** Unlike everything else that edits here it was trained on pairs of a picture and its
exact edit: {pairs} pairs of renders of `piva_bench.studio` (`piva-bench studio pairs`) with orders in many wordings.
None shows, before or after, a composition of the sets that are measured on (pie, pie_val, objaverse, objaverse_val), a
held-out pair of object and colour or material, or a composition that is reserved for the measurement below.

It began with `studio-sd` of the fingerprint `{began_with}`, with zeros for the weights of the new channels; the text
encoder was trained with it. 5 % of the rows lack the order, 5 % the picture, 5 % both. {steps} steps of {batch_size} in
{minutes} minutes; the shipped weights are exponential averages in fp16. Loss of the noise prediction on pairs that were
kept back: {held_out_loss}.

## Measured

{measured}

Regenerate: `piva-bench studio train ip2p --minutes {minutes} --fresh`, `piva-bench studio evaluate-ip2p`.
"""

_MEASURED = """\
{instructions} instructions whose edits have compositions that no pair shows, {sampler}, guidance {guidance_scale} for
the text and {image_guidance_scale} for the picture. *Followed*: share of edits in which a classifier trained on renders
alone reads everything that was to change as ordered. *Kept*: share of all else that it reads as in the source. PSNR is
to the exact edit. Beside it the same of the exact edits, of their autoencoder round trips (what a perfect editor could
reach) and of the unchanged source.

| | followed | kept | PSNR, dB |
|---|---|---|---|
{rows}

| edit type | followed | edits |
|---|---|---|
{types}
"""


def update_instruction_report(folder: Path, **parts: Any) -> None:
    """Replace parts of the embedded InstructPix2Pix's report ("training", "evaluation") and write its card anew."""
    path = folder / REPORT
    report = (json.loads(path.read_text()) if path.exists() else {}) | parts
    path.write_text(json.dumps(report, indent=2) + "\n")
    measured = "Not yet: `piva-bench studio evaluate-ip2p`."
    if "evaluation" in report:
        found = report["evaluation"]
        rows = [
            f"| {name} | {row['followed']:.3f} | {row['kept']:.3f} | {'' if row['psnr'] is None else row['psnr']} |"
            for name, row in found["rows"].items()
        ]
        types = [f"| {name} | {share:.3f} | {count} |" for name, (share, count) in found["by_type"].items()]
        measured = _MEASURED.format(**{**found, "rows": "\n".join(rows), "types": "\n".join(types)})
    (folder / "README.md").write_text(
        INSTRUCTION_CARD.format(**report["training"], measured=measured.strip())
    )


def write_control_card(folder: Path, report: dict[str, Any]) -> None:
    """Keep the depth ControlNet's report and write its card."""
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    (folder / "README.md").write_text(CONTROL_CARD.format(**report, **report["held_out_loss"]))


def update_report(folder: Path, **parts: Any) -> None:
    """Replace parts of the model's report and write its card anew."""
    path = folder / REPORT
    report = json.loads(path.read_text()) if path.exists() else {}
    report |= parts
    path.write_text(json.dumps(report, indent=2) + "\n")
    if {"autoencoder", "diffusion", "evaluation"} <= report.keys():
        (folder / "README.md").write_text(card(report))


def card(report: dict[str, Any]) -> str:
    """The card as Markdown."""
    rows = ["| part | pictures | steps | batch | minutes |", "|---|---|---|---|---|"]
    parts = ("autoencoder", "decoder", "diffusion")
    for part in parts:
        if part in report:
            r = report[part]
            rows.append(f"| {part} | {r['pictures']} | {r['steps']} | {r['batch_size']} | {r['minutes']} |")
    notes = [f"{part.capitalize()}: {note}" for part in parts if (note := report.get(part, {}).get("note"))]
    rows += ["", *(fill(note, 120) for note in notes)] if notes else []
    evaluation = report["evaluation"]
    table = ["| attribute | generated | true renders | round trips |", "|---|---|---|---|"]
    for head, value in evaluation["accuracy"].items():
        ceiling, round_trip = evaluation["accuracy_renders"][head], evaluation["accuracy_round_trips"][head]
        table.append(f"| {head} | {value:.3f} | {ceiling:.3f} | {round_trip:.3f} |")
    latest = report.get("decoder", report["autoencoder"])
    return CARD.format(
        training="\n".join(rows),
        accuracy="\n".join(table),
        psnr=latest["psnr"],
        psnr_object=latest["psnr_object"],
        **{key: evaluation[key] for key in ("prompts", "sampler", "guidance_scale")},
    )

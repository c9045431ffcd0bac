"""InstructPix2Pix: a model that was taught to edit, told an order and shown the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from piva_bench.method import EditOutcome, EditTask, MethodCard, OnStep, Strength
from piva_bench.params import MethodParams, parameter
from piva_bench.profiles import INSTRUCTIONS
from piva_bench.sampling.method import SamplingMethod
from piva_bench.session.query import Query

if TYPE_CHECKING:
    from torch import Tensor

    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.session.session import Session


def fault(instruction: str, denoiser: Denoiser) -> str | None:
    """Why nothing can be made of an instruction: there is none, or the model would not read it to its end."""
    if not instruction.strip():
        return "there is no instruction, and this method reads no other words: the dataset or --instruction gives one"
    model: Any = denoiser.beside.get(INSTRUCTIONS)
    if model is None:
        return None  # the first question to it says so
    tokens, read = len(model.tokenizer(instruction, verbose=False).input_ids), model.text_length
    if tokens > read:
        return f"the instruction has {tokens} tokens, of which the model reads {read}: shorten it"
    return None


class InstructPix2PixParams(MethodParams):
    """The settings of the official command line (timothybrooks/instruct-pix2pix, edit_cli.py)."""

    steps: int = parameter(
        100,
        ge=1,
        le=1000,
        source="official code",
        embedded=50,
        description="DDIM steps (official: Euler's, ancestral)",
    )
    guidance_scale: float = parameter(
        7.5, ge=0, le=1000, source="official code", description="s_T, towards the instruction"
    )
    image_guidance_scale: float = parameter(
        1.5, ge=0, le=1000, source="official code", description="s_I, towards the picture"
    )


class InstructPix2Pix(SamplingMethod):
    """eps = eps(x) + s_I (eps(x, z_src) - eps(x)) + s_T (eps(x, z_src, words) - eps(x, z_src)), from noise down."""

    card = MethodCard(
        name="instruct_pix2pix",
        title="InstructPix2Pix",
        paper="2211.09800",
        summary="Samples with a model trained on pairs of a picture and its edit, by an instruction.",
        kind="sampling",
        supervised=True,
        strength=Strength(parameter="guidance_scale", values=(2.5, 5, 7.5, 10, 12.5)),
        models=(INSTRUCTIONS,),
        idea_code_license="MIT (timothybrooks/instruct-pix2pix)",
    )
    Params = InstructPix2PixParams
    params: InstructPix2PixParams

    def sample(self, session: Session) -> Tensor:
        """DDIM down from pure noise."""
        p, schedule = self.params, session.schedule
        latents = session.random(0).noise("noise")
        for t, to in session.track(schedule.moves(schedule.grid(p.steps))):
            noisy = session.at("edit", latents, t)
            scales = p.guidance_scale, p.image_guidance_scale
            eps = session.predict({"edit": Query(noisy, "instruction", scales, model=INSTRUCTIONS)})["edit"]
            latents = schedule.ddim(latents, eps, t, to)
        return latents

    def edit(
        self, batch: Sequence[EditTask], denoiser: Denoiser, seed: int, on_step: OnStep | None = None
    ) -> list[EditOutcome]:
        """See ``EditMethod.edit``; a picture whose instruction is of no use fails by itself."""
        faults = [fault(task.instruction, denoiser) for task in batch]
        told = [task for task, wrong in zip(batch, faults, strict=True) if wrong is None]
        made = iter(super().edit(told, denoiser, seed, on_step))
        return [
            next(made) if wrong is None else EditOutcome(task.sample_id, reason=wrong)
            for task, wrong in zip(batch, faults, strict=True)
        ]

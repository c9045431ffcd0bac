"""Inversions against plain loops in float64, and what each promises about the way back."""

import dataclasses
import itertools

import pytest
import torch

from methods.p2p import P2P
from methods.vae_roundtrip import VaeRoundtrip
from piva_bench.diffusion.kept import KeptRows
from piva_bench.diffusion.load import load_denoiser
from piva_bench.method import EditTask
from piva_bench.paths import embedded_model_dir
from piva_bench.profiles import get_profile
from piva_bench.runs.pictures import source_pixels, to_tensor
from piva_bench.runs.request import open_dataset
from tests.methods.plain import STEPS, W, close, edited, grid, invert
from tests.tiny_sd import make_tasks

FREE = {"cross_replace": 0, "self_replace": 0, "blend_threshold": 0}
"""Prompt-to-prompt whose target pays no heed to the source."""
SOURCE = {"cross_replace": 0, "self_replace": 0, "blend_threshold": 1}
"""Where the words to blend are known and nothing is above the threshold, the picture is the source's branch."""
WORDS = (("red", "blue"),)


def test_negative_prompt_inversion_leads_away_from_the_source(exact, plain):
    with torch.no_grad():
        x, times = invert(plain)[0], [*grid(STEPS), None]
        for t, to in itertools.pairwise(times):
            source = plain.eps(x, t, plain.task.source_prompt)
            target = plain.eps(x, t, plain.task.target_prompt)
            x = plain.ddim(x, source + W * (target - source), t, to)
    close(
        edited(exact, P2P, plain.task, inversion="negative_prompt", guidance_scale=W, **FREE),
        plain.picture(x),
    )


def learnt_null_texts(plain, way, w):
    """An embedding of "" for each step, one picture, one optimiser, stopping as soon as the loss is small."""
    text = plain.denoiser.condition([""]).text.clone()
    conditional = plain.denoiser.condition([plain.task.source_prompt]).text
    x, learnt = way[0], []
    for index, (t, to) in enumerate(itertools.pairwise([*grid(STEPS), None])):
        text = text.clone().requires_grad_()
        optimizer = torch.optim.Adam([text], lr=1e-2 * (1 - index / 100))
        eps = plain.unet(x, torch.tensor([t]), encoder_hidden_states=conditional).sample.detach()
        for _ in range(10):
            null = plain.unet(x, torch.tensor([t]), encoder_hidden_states=text).sample
            loss = ((plain.ddim(x, null + w * (eps - null), t, to) - way[index + 1]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if loss.item() < 1e-5 + index * 2e-5:
                break
        text = text.detach()
        null = plain.unet(x, torch.tensor([t]), encoder_hidden_states=text).sample.detach()
        x = plain.ddim(x, null + w * (eps - null), t, to)
        learnt.append(text)
    return learnt, x


def test_null_text_inversion_is_its_loop(exact, plain):
    with torch.no_grad():
        way = invert(plain)
    learnt, source = learnt_null_texts(plain, way, W)
    x, conditional = way[0], exact.condition([plain.task.target_prompt]).text
    with torch.no_grad():
        for index, (t, to) in enumerate(itertools.pairwise([*grid(STEPS), None])):
            null, eps = (
                plain.unet(x, torch.tensor([t]), encoder_hidden_states=text).sample
                for text in (learnt[index], conditional)
            )
            x = plain.ddim(x, null + W * (eps - null), t, to)
    ours = edited(exact, P2P, plain.task, inversion="null_text", guidance_scale=W, **FREE)
    torch.testing.assert_close(ours, plain.picture(x), atol=1e-5, rtol=0)
    # What was learnt brings the source back; without it guidance carries it elsewhere.
    same = dataclasses.replace(plain.task, target_prompt=plain.task.source_prompt)
    kept = edited(exact, P2P, same, inversion="null_text", guidance_scale=W, **FREE)
    torch.testing.assert_close(kept, plain.picture(source), atol=1e-5, rtol=0)


def test_null_texts_do_not_see_the_batch(exact):
    method = P2P(P2P.Params(steps=STEPS, inversion="null_text"))
    tasks = make_tasks(3)
    together = method.edit(tasks, exact, 0)
    for task, outcome in zip(tasks, together, strict=True):
        close(method.edit([task], exact, 0)[0].image, outcome.image)


def test_direct_inversion_puts_the_source_back_on_its_way(exact, plain):
    # Cross attention is the source's in all steps, so the target feels where the source's branch is.
    task = dataclasses.replace(plain.task, blended_words=WORDS)
    round_trip = plain.picture(plain.z_src)
    close(edited(exact, P2P, task, inversion="direct", guidance_scale=W, **SOURCE), round_trip)
    assert (
        edited(exact, P2P, task, inversion="ddim", guidance_scale=W, **SOURCE) - round_trip
    ).abs().max() > 1e-3


def test_editors_invert_a_source_once(tiny_sd, plain):
    denoiser, rows = load_denoiser(tiny_sd), []
    hook = denoiser.network.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))

    def run(inversion):
        rows.clear()
        (outcome,) = P2P(P2P.Params(steps=STEPS, inversion=inversion)).edit([plain.task], denoiser, 0)
        return outcome, sum(rows)

    alone, cost = run("direct")
    denoiser.kept = KeptRows()
    run("ddim")
    shared, less = run("direct")
    assert less == cost - STEPS
    # What it cost is told as if nobody had been there before.
    assert shared.unet_evaluations == alone.unet_evaluations == cost
    close(shared.image, alone.image)
    hook.remove()


@pytest.fixture(scope="module")
def studio():
    """The embedded model and one of its test pictures, to be edited into itself."""
    profile = get_profile("embedded")
    sample = open_dataset("pie", profile, None).samples[0]
    word = sample.source_prompt.split()[-1]
    picture = to_tensor(source_pixels(sample, profile.resolution))
    prompt = sample.source_prompt
    return load_denoiser(embedded_model_dir()), EditTask(
        sample.id, picture, prompt, prompt, blended_words=((word, word),)
    )


@pytest.mark.parametrize("inversion", ["null_text", "direct"])
def test_a_learnt_or_corrected_way_leads_back_to_the_source(studio, inversion):
    denoiser, task = studio

    def error(method):
        (outcome,) = method.edit([task], denoiser, 0)
        return float((outcome.image - task.source).square().mean().sqrt()) / 2

    # Root mean square, as a share of the range of pixels.
    bound = error(VaeRoundtrip(VaeRoundtrip.Params())) + 0.01
    assert error(P2P(P2P.Params(steps=20, inversion=inversion, **SOURCE))) <= bound
    assert error(P2P(P2P.Params(steps=20, inversion="ddim", **SOURCE))) > bound

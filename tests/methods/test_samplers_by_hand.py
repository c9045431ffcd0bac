"""Samplers against plain loops in float64."""

import dataclasses
import itertools

import pytest
import torch
from diffusers import UNet2DConditionModel

from methods.flowedit import FlowEdit
from methods.p2p import P2P
from methods.sdedit import SDEdit
from piva_bench.diffusion.schedule import Schedule
from tests.methods.plain import STEPS, W, close, edited, grid, invert


@torch.no_grad()
def test_sdedit_is_its_loop(exact, plain):
    times = [*grid(STEPS)[-3:], None]  # 0.6 of five
    x = plain.a(times[0]) * plain.z_src + plain.s(times[0]) * plain.noise(0, "noise")
    for t, to in itertools.pairwise(times):
        x = plain.ddim(x, plain.guided(x, t, plain.task.target_prompt, W), t, to)
    close(edited(exact, SDEdit, plain.task, strength=0.6, guidance_scale=W), plain.picture(x))


@torch.no_grad()
def test_flowedit_is_its_ode_on_the_flow_view(exact, plain):
    # Straight from the paper in flow coordinates: y = (1 - s) z + s n, velocity v = n - z of the prediction there.
    def velocity(y, t, prompt, w):
        x = y * (plain.a(t) + plain.s(t))
        eps = plain.guided(x, t, prompt, w)
        return eps - plain.clean(x, eps, t)

    times = grid(STEPS)[-4:]
    flow = [float(plain.s(t) / (plain.a(t) + plain.s(t))) for t in times] + [0.0]
    z = plain.z_src.clone()
    for index, t in enumerate(times):
        s, change = flow[index], 0
        for draw in range(2):
            y_src = (1 - s) * plain.z_src + s * plain.noise(index, f"noise/{draw}")
            target = velocity(z + y_src - plain.z_src, t, plain.task.target_prompt, W)
            change = change + (target - velocity(y_src, t, plain.task.source_prompt, 2.0)) / 2
        z = z + (flow[index + 1] - s) * change
    params = {"n_max": 4, "n_avg": 2, "guidance_scale": W, "source_guidance_scale": 2.0}
    close(edited(exact, FlowEdit, plain.task, **params), plain.picture(z))


def test_flowedit_with_equal_prompts_and_guidance_is_the_round_trip(exact, plain):
    same = dataclasses.replace(plain.task, target_prompt=plain.task.source_prompt)
    ours = edited(exact, FlowEdit, same, n_max=4, guidance_scale=W, source_guidance_scale=W)
    close(ours, plain.picture(plain.z_src))


@torch.no_grad()
def test_p2p_without_attention_is_ddim_from_the_inversion(exact, plain):
    x, times = invert(plain)[0], [*grid(STEPS), None]
    for t, to in itertools.pairwise(times):
        x = plain.ddim(x, plain.guided(x, t, plain.task.target_prompt, W), t, to)
    off = {"cross_replace": 0, "self_replace": 0, "blend_threshold": 0}
    close(edited(exact, P2P, plain.task, guidance_scale=W, **off), plain.picture(x))


class Swapped:
    """diffusers' plain attention on a batch [source, target] whose target attends as the source does."""

    def __init__(self, cross, factors=()):
        self.cross, self.factors = cross, dict(factors)

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        q, k, v = (attn.head_to_batch_dim(one) for one in (q, k, v))
        probabilities = attn.get_attention_scores(q, k)
        heads = len(probabilities) // 2
        source, target = probabilities[:heads], probabilities[heads:].clone()
        if self.cross is None:
            target = source
        else:
            for i, j in self.cross:
                target[:, :, j] = source[:, :, i]
            for j, factor in self.factors.items():
                target[:, :, j] *= factor
        out = attn.batch_to_head_dim(torch.cat([source, target]) @ v)
        return attn.to_out[0](out)


def swapped_by_hand(exact, plain, task, pairs, factors=()):
    """The target's picture where in all steps its maps are the source's, but for tokens without a counterpart."""
    plain.task = task
    unet = UNet2DConditionModel.from_pretrained(exact.path / "unet", torch_dtype=torch.float64)
    for name, module in unet.named_modules():
        if name.endswith(("attn1", "attn2")):
            module.set_processor(Swapped(pairs, factors) if name.endswith("attn2") else Swapped(None))
    text = exact.condition([task.source_prompt, task.target_prompt]).text
    with torch.no_grad():
        both = invert(plain)[0].repeat(2, 1, 1, 1)
        for t, to in itertools.pairwise([*grid(STEPS), None]):
            conditional = unet(both, torch.tensor([t]), encoder_hidden_states=text).sample
            empty = torch.cat([plain.eps(one, t, "") for one in both.split(1)])
            both = plain.ddim(both, empty + W * (conditional - empty), t, to)
    return plain.picture(both[1:])


ON = {"cross_replace": 1, "self_replace": 1, "blend_threshold": 0}


@pytest.mark.parametrize("control", ["refine", "replace"])
def test_p2p_gives_the_target_the_sources_attention(exact, plain, control):
    # Tokens are letters here; the words that both have correspond letter by letter.
    task = dataclasses.replace(plain.task, source_prompt="a cup", target_prompt="a cup of t")
    source, target = (exact.tokenizer(text).input_ids for text in (task.source_prompt, task.target_prompt))
    pairs = [(i, i) for i in range(len(source) - 1)]  # start and all of "a cup"
    pairs += [(len(source) - 1, len(target) - 1)]  # the end
    pairs += [(i, i) for i in range(max(len(source), len(target)), 77)]  # padding
    close(
        edited(exact, P2P, task, guidance_scale=W, control=control, **ON),
        swapped_by_hand(exact, plain, task, pairs),
    )


@pytest.mark.parametrize("control", ["refine", "replace"])
def test_the_maps_of_a_swapped_word_are_the_sources_or_its_own(exact, plain, control):
    task = dataclasses.replace(plain.task, source_prompt="a cup", target_prompt="a mug")
    # start, a, c|m, u, p|g, end, padding: "m" and "g" keep their own maps, or get those of "c" and "p".
    pairs = [(i, i) for i in range(77) if control == "replace" or i not in (2, 4)]
    close(
        edited(exact, P2P, task, guidance_scale=W, control=control, **ON),
        swapped_by_hand(exact, plain, task, pairs),
    )


def test_reweighting_multiplies_the_maps_of_the_blended_word(exact, plain):
    words = (("cup", "mug"),)
    task = dataclasses.replace(plain.task, source_prompt="a cup", target_prompt="a mug", blended_words=words)
    pairs = [(i, i) for i in range(77) if i not in (2, 4)]
    theirs = swapped_by_hand(exact, plain, task, pairs, {2: 3.0, 3: 3.0, 4: 3.0})
    close(edited(exact, P2P, task, guidance_scale=W, reweight=3, **ON), theirs)


def test_p2p_with_equal_prompts_is_the_reconstruction(exact, plain):
    same = dataclasses.replace(plain.task, target_prompt=plain.task.source_prompt)
    off = {"cross_replace": 0, "self_replace": 0, "blend_threshold": 0}
    close(edited(exact, P2P, same, blend_threshold=0), edited(exact, P2P, same, **off))


def test_blending_keeps_the_source_where_nothing_attends_to_the_words(exact, plain):
    task = dataclasses.replace(plain.task, blended_words=(("red", "blue"),))
    off = {"cross_replace": 0, "self_replace": 0}
    free = edited(exact, P2P, task, blend_threshold=0, **off)
    # Above every share nothing is the target's; then the picture is the source branch's reconstruction.
    held = edited(exact, P2P, task, blend_threshold=1, **off)
    same = dataclasses.replace(task, target_prompt=task.source_prompt, blended_words=())
    close(held, edited(exact, P2P, same, blend_threshold=0, **off))
    some = edited(exact, P2P, task, blend_threshold=0.9, **off)
    assert not torch.equal(some, free)
    # Without words there is no mask.
    unknown = dataclasses.replace(task, blended_words=())
    close(edited(exact, P2P, unknown, blend_threshold=0.9, **off), free)


def test_the_flow_view_of_a_gaussian_is_its_flow():
    # z ~ N(m, v): eps*(x) = s (x - a m) / (a^2 v + s^2) and, on the straight line, v*(y) = E[n - z | y] in closed form.
    schedule = Schedule.variance_preserving(
        (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    )
    m, v = 0.7, 1.9
    for t in (1, 200, 700, 999):
        (a,), (s,) = (one.flatten().tolist() for one in schedule.alpha_sigma(t))
        x = torch.linspace(-3, 3, 7, dtype=torch.float64).view(1, 1, 1, -1)
        eps = s * (x - a * m) / (a**2 * v + s**2)
        ours = eps - schedule.clean(x, eps, t)
        time, y = float(schedule.flow_time(t)), x / schedule.flow_scale(t)
        spread = (1 - time) ** 2 * v + time**2
        noise = time * (y - (1 - time) * m) / spread
        picture = m + (1 - time) * v * (y - (1 - time) * m) / spread
        torch.testing.assert_close(ours, noise - picture, atol=1e-12, rtol=1e-9)

"""Editors that set features and attention, against diffusers' own UNet with hooks and processors of one's own."""

import dataclasses
import itertools

import pytest
import torch
from diffusers import UNet2DConditionModel

from methods.masactrl import MasaCtrl
from methods.pnp import PnP
from tests.methods.plain import STEPS, W, close, edited, grid, invert

NEGATIVE = "ugly"


class FromSource:
    """diffusers' plain attention on a batch [source, unconditional, conditional] in which others take the source's."""

    def __init__(self, taken, switch):
        self.taken, self.switch = taken, switch

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        values = {"q": q, "k": k, "v": v}
        if self.switch["attention"]:
            for name in self.taken:
                values[name] = values[name][:1].expand_as(values[name])
        q, k, v = (attn.head_to_batch_dim(values[name].contiguous()) for name in "qkv")
        out = attn.batch_to_head_dim(attn.get_attention_scores(q, k) @ v)
        return attn.to_out[0](out)


def by_hand(exact, plain, switches, prepare, negative, direct):
    """An edit in two branches, the source's under ""; ``prepare`` installs what the target takes from it."""
    unet = UNet2DConditionModel.from_pretrained(exact.path / "unet", torch_dtype=torch.float64)
    switch = {}
    prepare(unet, switch)
    text = exact.condition(["", negative, plain.task.target_prompt]).text
    with torch.no_grad():
        way = invert(plain, "")
        source = target = way[0]
        for index, (t, to) in enumerate(itertools.pairwise([*grid(STEPS), None])):
            switch |= switches(index)
            both = torch.cat([source, target, target])
            eps, null, conditional = unet(both, torch.tensor([t]), encoder_hidden_states=text).sample.split(1)
            source = way[index + 1] if direct else plain.ddim(source, eps, t, to)
            target = plain.ddim(target, null + W * (conditional - null), t, to)
    return plain.picture(target)


@pytest.mark.parametrize("inversion", ["ddim", "direct"])
def test_plug_and_play_injects_features_and_maps(exact, plain, inversion):
    def prepare(unet, switch):
        # The tiny decoder has four layers, so the second is where a third of them is over; only the third and fourth
        # have attention.
        def take(module, inputs, output):
            return output[:1].expand_as(output) if switch["features"] else output

        unet.up_blocks[0].resnets[1].conv2.register_forward_hook(take)
        for attention in unet.up_blocks[1].attentions:
            attention.transformer_blocks[0].attn1.set_processor(FromSource("qk", switch))

    def switches(index):
        return {"features": index / STEPS < 0.8, "attention": index / STEPS < 0.5}

    theirs = by_hand(exact, plain, switches, prepare, NEGATIVE, inversion == "direct")
    ours = edited(exact, PnP, plain.task, inversion=inversion, guidance_scale=W, negative_prompt=NEGATIVE)
    close(ours, theirs)


@pytest.mark.parametrize("inversion", ["ddim", "direct"])
def test_masactrl_looks_at_the_source(exact, plain, inversion):
    def prepare(unet, switch):
        for attention in unet.up_blocks[1].attentions:  # the last two of four
            attention.transformer_blocks[0].attn1.set_processor(FromSource("kv", switch))

    def switches(index):
        return {"attention": index >= 2}

    theirs = by_hand(exact, plain, switches, prepare, "", inversion == "direct")
    ours = edited(exact, MasaCtrl, plain.task, inversion=inversion, guidance_scale=W, first_step=0.4)
    close(ours, theirs)


@pytest.mark.parametrize(
    ("method", "params"), [(PnP, {"negative_prompt": ""}), (MasaCtrl, {"first_step": 0.0})]
)
def test_an_empty_target_is_the_reconstruction(exact, plain, method, params):
    # The source's branch is under ""; a target under "" is the same branch, whatever is taken from it.
    same = dataclasses.replace(plain.task, target_prompt="")
    with torch.no_grad():
        x = invert(plain, "")[0]
        for t, to in itertools.pairwise([*grid(STEPS), None]):
            x = plain.ddim(x, plain.eps(x, t, ""), t, to)
    close(edited(exact, method, same, guidance_scale=W, **params), plain.picture(x))

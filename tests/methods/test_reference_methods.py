import dataclasses

import torch

from methods.counterfactual import Counterfactual
from methods.identity import Identity
from methods.vae_roundtrip import VaeRoundtrip
from tests.tiny_sd import make_tasks


def test_identity_returns_the_source(denoiser):
    tasks = make_tasks(2)
    outcomes = Identity(Identity.Params()).edit(tasks, denoiser, 0)
    for task, outcome in zip(tasks, outcomes, strict=True):
        assert outcome.sample_id == task.sample_id
        assert torch.equal(outcome.image, task.source)
        assert outcome.unet_evaluations == 0


def test_vae_roundtrip_encodes_and_decodes(denoiser):
    (task,) = make_tasks(1)
    (outcome,) = VaeRoundtrip(VaeRoundtrip.Params()).edit([task], denoiser, 0)
    with torch.no_grad():
        latents = denoiser.vae.encode(task.source[None]).latent_dist.mean
        expected = denoiser.vae.decode(latents).sample.clamp(-1, 1)[0]
    torch.testing.assert_close(outcome.image, expected, atol=1e-5, rtol=0)


def test_vae_roundtrip_of_nan_is_a_reason(denoiser):
    task = dataclasses.replace(make_tasks(1)[0], source=torch.full((3, 32, 32), torch.nan))
    (outcome,) = VaeRoundtrip(VaeRoundtrip.Params()).edit([task], denoiser, 0)
    assert outcome.image is None
    assert "not finite" in outcome.reason


def test_counterfactual_returns_the_reference_or_says_there_is_none(denoiser):
    first, second = make_tasks(2)
    reference = torch.rand(3, 32, 32)
    tasks = [dataclasses.replace(first, reference=reference), second]
    with_one, without = Counterfactual(Counterfactual.Params()).edit(tasks, denoiser, 0)
    assert torch.equal(with_one.image, reference)
    assert with_one.reason is None
    assert without.image is None
    assert "no counterfactual" in without.reason

"""Rules beyond DDS against plain loops in float64."""

import pytest
import torch

from methods.cds import CDS
from methods.dds import DDS
from methods.ids import IDS
from methods.pds import PDS
from piva_bench.diffusion.kept import KeptRows
from piva_bench.diffusion.load import load_denoiser
from tests.rows import random_answers, step_of
from tests.tiny_sd import make_tasks

STEPS, W, RANGE = 3, 5.0, range(50, 949)


def edited(denoiser, method, **params):
    (outcome,) = method(method.Params(steps=STEPS, guidance_scale=W, **params)).edit(
        make_tasks(1), denoiser, 0
    )
    assert outcome.reason is None
    return outcome


def test_ids_is_its_equation(exact, plain):
    task = plain.task

    def gradient(step, z):
        t, eps = plain.t(step, RANGE), plain.noise(step, "edit/noise")
        x = plain.a(t) * plain.z_src + plain.s(t) * eps
        for _ in range(2):
            x = x.detach().requires_grad_()
            clean = plain.clean(x, plain.guided(x, t, task.source_prompt, W), t)
            (plain.z_src - clean).norm().backward()
            x = x.detach() - 0.5 * x.grad
        corrected = (x - plain.a(t) * plain.z_src) / plain.s(t)
        x_edit = plain.a(t) * z + plain.s(t) * corrected
        with torch.no_grad():
            return plain.guided(x_edit, t, task.target_prompt, W) - plain.guided(x, t, task.source_prompt, W)

    ours = edited(exact, IDS, rounds=2, correction_rate=0.5)
    torch.testing.assert_close(ours.image, plain.distilled(STEPS, gradient, 2000 / 4096), atol=1e-6, rtol=0)
    # A round is two rows forward and backward, the edit four rows.
    assert ours.unet_evaluations == STEPS * (2 * 2 + 4)
    assert ours.training_evaluations == STEPS * 2 * 2


def test_ids_without_rounds_is_dds(exact):
    assert torch.equal(edited(exact, IDS, rounds=0).image, edited(exact, DDS).image)


def nce(query, key, order, tau=0.07):
    """PatchNCE of two feature maps [C, h, w] at the places ``order``."""
    query, key = (f.flatten(1).T[order] for f in (query, key))
    query, key = (f / f.norm(dim=1, keepdim=True) for f in (query, key))
    terms = [
        -torch.log_softmax(torch.stack([q @ k for k in key]) / tau, dim=0)[index]
        for index, q in enumerate(query)
    ]
    return torch.stack(terms).mean()


@pytest.mark.parametrize("kept", [False, True])
def test_cds_is_its_equation(tiny_sd, plain, kept):
    from piva_bench.session.noise import uniform

    exact = load_denoiser(tiny_sd, dtype=torch.float64)
    exact.kept = KeptRows() if kept else None  # as in a sweep
    task, found = plain.task, {}
    for name, module in plain.unet.named_modules():
        if name.startswith("up_blocks") and name.endswith("attn1"):
            module.register_forward_hook(lambda m, i, out, name=name: found.__setitem__(name, out))

    def features(x, t, prompt):
        found.clear()
        prediction = plain.eps(x, t, prompt)
        return prediction, dict(found)

    def gradient(step, z):
        t, eps = plain.t(step, RANGE), plain.noise(step, "edit/noise")
        x = (plain.a(t) * z + plain.s(t) * eps).requires_grad_()
        x_src = plain.a(t) * plain.z_src + plain.s(t) * eps
        null, (target, queries) = plain.eps(x, t, ""), features(x, t, task.target_prompt)
        with torch.no_grad():
            null_src, (source, keys) = plain.eps(x_src, t, ""), features(x_src, t, task.source_prompt)
        loss = 0
        for layer, query in queries.items():
            for patch in (1, 2):
                side = int(query.shape[1] ** 0.5)
                maps = [f.transpose(1, 2).view(1, -1, side, side) for f in (query, keys[layer])]
                q, k = (torch.nn.functional.avg_pool2d(f, patch)[0] for f in maps)
                random = uniform(0, task.sample_id, step, f"{layer}/{patch}", (q[0].numel(),))
                loss = loss + nce(k, q, random.argsort()[:16])  # the source asks, the target answers
        loss.backward()
        delta = (null + W * (target - null)).detach() - (null_src + W * (source - null_src))
        # The loss is not scaled as DDS's gradient is: 3 dl/dz by itself, dx/dz = a_t.
        return 2000 / 4096 * delta + 3 * plain.a(t) * x.grad

    for _ in range(2 if kept else 1):
        ours = edited(exact, CDS, patches=16)
        torch.testing.assert_close(ours.image, plain.distilled(STEPS, gradient, 1.0), atol=1e-6, rtol=0)
    assert ours.training_evaluations == STEPS * 2


def test_cds_without_weight_is_dds(exact):
    ours = edited(exact, CDS, contrastive_weight=0)
    torch.testing.assert_close(ours.image, edited(exact, DDS).image, atol=1e-6, rtol=0)


def coefficients(abar, t, stride):
    """psi and chi of PDS from its definition: betas of single steps, neighbours a stride apart."""
    before, beta = abar[t - stride], 1 - abar[t] / abar[t - 1]
    c0 = before.sqrt() * beta / (1 - abar[t])
    c1 = (1 - beta).sqrt() * (1 - before) / (1 - abar[t])
    deviation = ((1 - before) / (1 - abar[t]) * beta).sqrt()
    psi = (before.sqrt() - c0 - c1 * abar[t].sqrt()) / deviation
    return psi, c0 * (1 - abar[t]).sqrt() / abar[t].sqrt() / deviation


def test_pds_is_a_pull_and_a_weighted_dds(exact, plain):
    task, among = plain.task, range(21, 980, 2)

    def gradient(step, z):
        t, eps = plain.t(step, among), plain.noise(step, "edit/noise")
        x, x_src = (plain.a(t) * one + plain.s(t) * eps for one in (z, plain.z_src))
        with torch.no_grad():
            target = plain.guided(x, t, task.target_prompt, W)
            delta = target - plain.guided(x_src, t, task.source_prompt, W)
        psi, chi = coefficients(plain.abar, t, 2)
        return psi * (z - plain.z_src) + chi * delta

    ours = edited(exact, PDS)
    torch.testing.assert_close(ours.image, plain.distilled(STEPS, gradient, 2000 / 4096), atol=1e-6, rtol=0)


# Values of the two weights on Stable Diffusion's schedule, computed apart from this code.
@pytest.mark.parametrize(
    ("t", "psi", "chi"), [(21, 1.6133, 0.2317), (201, 0.1396, 0.0918), (979, 0.0042, 0.1095)]
)
def test_pds_weights_are_those_known(plain, t, psi, chi):
    ours = coefficients(plain.abar, t, 2)
    assert [float(one) for one in ours] == pytest.approx([psi, chi], abs=1e-4)
    # On a grid of neighbouring timesteps nothing pulls.
    assert float(coefficients(plain.abar, t, 1)[0]) == pytest.approx(0, abs=1e-12)


def test_equal_predictions_leave_pds_the_pull_to_the_source(denoiser):
    eps = random_answers(["target"])
    step, _ = step_of(denoiser, eps | {"source": eps["target"]})
    gradient = PDS(PDS.Params()).gradient(step)
    away = step.latents - step.source_latents
    assert (gradient * away).flatten(1).sum(dim=1).min() > 0


def test_pds_refuses_a_grid_on_which_it_is_dds():
    with pytest.raises(ValueError, match="500"):
        PDS.Params(grid_steps=1000)

"""The rules on a scene of nerfstudio; what makes each its own is known in closed form."""

import pytest
import torch

from tests.nerfstudio.tiny_scene import begin  # isort: skip

from piva_bench.distillation.engine import Distillation
from piva_bench.nerfstudio.edit import squares
from piva_bench.registry import METHODS


def rule_of(method: str, **params):
    cls = METHODS.load(method)
    return cls(cls.Params(**params))


def moved(scene, model, target: str, method: str = "dds", **params) -> torch.Tensor:
    """How a few steps change two pictures."""
    views, fresh, denoiser = begin(scene, model, target)
    with torch.no_grad():
        Distillation(rule_of(method, steps=3, **params), views, denoiser, 0).run()
        before, after = (one.render(fresh.cameras[:2]).rgb for one in (scene, fresh))
    return after - before


def first_gradient(scene, model, method: str, **params) -> torch.Tensor:
    """On the latents of a view, where the edit is its source."""
    views, _, denoiser = begin(scene, model, "a blue ball")
    caught = []
    views.step = caught.append
    with torch.no_grad():
        Distillation(rule_of(method, **params), views, denoiser, 0).step(0)
    return caught[0]


@pytest.mark.parametrize("method", ["dds", "pds"])
def test_equal_prompts_leave_the_scene_alone(scene, model, method):
    """A prompt against itself: no gradient, and nothing else moves the field."""
    assert moved(scene, model, "a red ball", method).abs().max() == 0
    assert moved(scene, model, "a blue ball", method).abs().max() > 0.01


@pytest.mark.parametrize(("method", "own"), [("ids", "rounds"), ("cds", "contrastive_weight")])
def test_without_gradients_through_the_network_they_are_dds(scene, model, method, own):
    dds = moved(scene, model, "a blue ball")
    assert torch.allclose(moved(scene, model, "a blue ball", method, **{own: 0}), dds, atol=1e-5)
    assert (moved(scene, model, "a blue ball", method) - dds).abs().max() > 1e-3


def test_pds_begins_as_dds_with_the_weight_of_its_two_timesteps(scene, model):
    """Where edit and source are one, x_{t-2} is the same in both branches and cancels; what is left is
    a_{t-2} beta_t / (s_t a_t) / sigma_t times DDS, sigma_t = s_{t-2} sqrt(beta_t) / s_t, a^2 = abar, s^2 = 1 - abar.
    """
    t = 501
    fixed = {"guidance_scale": 100.0, "t_min": t, "t_max": t}
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    abar = torch.cumprod(1 - betas, 0)
    deviation = ((1 - abar[t - 2]) / (1 - abar[t]) * betas[t]).sqrt()
    weight = (abar[t - 2] / abar[t] / (1 - abar[t])).sqrt() * betas[t] / deviation
    dds, pds = (first_gradient(scene, model, method, **fixed) for method in ("dds", "pds"))
    assert dds.norm() > 0
    assert torch.allclose(pds, weight.float() * dds, rtol=1e-3, atol=1e-3 * float(pds.abs().max()))


def test_a_gradient_on_the_latents_takes_the_scene_where_it_points(scene, model):
    views, fresh, denoiser = begin(scene, model, "a red ball", slice(1))
    distances = []
    with torch.no_grad():
        negative = 1 - scene.render(squares(fresh.cameras[:1], 16)).rgb
        goal = denoiser.encode(negative * 2 - 1)
        for step in range(10):
            seen = views.observe(step)
            distances.append(float((seen.latents - goal).norm()))
            views.step(seen.latents - goal)
    assert distances[-1] < 0.9 * distances[0]

"""Every method that ships keeps to the contract; and methods that break it in one way each are found out."""

import pytest
import torch

from methods.dds import DDS
from piva_bench.conformance.method_checks import CHECKS, check_method
from piva_bench.registry import METHODS
from tests.tiny_sd import denoiser, tiny_sd

__all__ = ["denoiser", "tiny_sd"]


@pytest.mark.parametrize("name", METHODS.names())
def test_our_methods_keep_to_the_contract(denoiser, name):
    findings = list(check_method(METHODS.load(name), denoiser))
    assert len(findings) == len(CHECKS)
    assert [(f.check, f.fault) for f in findings if f.fault] == []
    allowed = {"is_a_prefix_of_itself"}
    if METHODS.load(name).card.kind == "reference":
        allowed.add("has_a_strength")
    if "pictures" in METHODS.load(name).kinds:
        assert all(f.skipped is None for f in findings if f.check not in allowed)
    assert [f.advice for f in findings if f.advice] == []


class Forgetful(DDS):
    """Draws its own numbers."""

    def gradient(self, step):
        return super().gradient(step) + 0.1 * torch.randn_like(step.latents)


class Social(DDS):
    """Looks at its neighbours."""

    def gradient(self, step):
        return super().gradient(step) + 10 * step.latents.mean()


class Planner(DDS):
    """Asks how many steps there will be, and does not say so."""

    def gradient(self, step):
        return super().gradient(step) * (1 - step.index / self.params.steps)


class Cheap(DDS):
    """Costs more than it says."""

    def edit(self, *arguments, **more):
        from dataclasses import replace

        return [replace(outcome, unet_evaluations=1) for outcome in super().edit(*arguments, **more)]


class Untidy(DDS):
    """Leaves a hook in the network."""

    def gradient(self, step):
        network = step._rows.denoiser.network
        if not hasattr(self, "hook"):
            self.hook = network.conv_in.register_forward_hook(lambda module, inputs, output: output * 1.01)
        return super().gradient(step)


class Shuffled(DDS):
    """Mixes its outcomes up."""

    def edit(self, *arguments, **more):
        return super().edit(*arguments, **more)[::-1]


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (Forgetful, "is_the_same_twice"),
        (Social, "does_not_see_the_batch"),
        (Planner, "is_a_prefix_of_itself"),
        (Cheap, "counts_what_it_costs"),
        (Shuffled, "edits_every_picture"),
    ],
)
def test_what_breaks_the_contract_is_found(denoiser, cls, check):
    assert check in [finding.check for finding in check_method(cls, denoiser) if finding.fault]


def test_what_is_left_behind_is_found(tiny_sd):
    from piva_bench.diffusion.load import load_denoiser

    own = load_denoiser(tiny_sd)  # it is spoilt afterwards
    assert "leaves_nothing_behind" in [f.check for f in check_method(Untidy, own) if f.fault]

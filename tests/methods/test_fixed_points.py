"""Where the rules come to rest on a model whose every score is known: pictures of prompt c are N(mu_c, v I).

There eps(x, t, c) = s (x - a mu_c) / (a^2 v + s^2), so each rule's step is linear in z and its fixed point is a line
of algebra. All at one timestep; guidance 1 is the prompt's own score.
"""

import math

import pytest
import torch

from methods._walk import EVEN
from methods.csd import CSD
from methods.dds import DDS
from methods.dreamcatalyst import DreamCatalyst
from methods.drfs import DRFS
from methods.flowalign import FlowAlign
from methods.ids import IDS
from methods.ism import ISM
from methods.nfsd import NFSD
from methods.pds import PDS
from methods.piva_analytic import PivaAnalytic
from methods.piva_untrained import PivaUntrained
from methods.sdi import SDI
from methods.ssd import SSD
from piva_bench.session.predictor import _guided
from piva_bench.session.step import Step
from tests.methods.test_rules_by_hand import coefficients
from tests.rows import rows_of
from tests.tiny_sd import make_tasks

MEANS = {"null": 0.0, "source": 0.5, "target": -0.7}
SHIFT = MEANS["target"] - MEANS["source"]
SPREAD, T = 0.3, 401
ABAR = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
A, S = float(ABAR[T].sqrt()), float((1 - ABAR[T]).sqrt())
PULL = S / (A**2 * SPREAD + S**2)
"""eps = PULL (x - a mu)."""
WITHIN = {"t_min": T, "t_max": T, "guidance_scale": 1}


class Gaussian:
    """Stands where a predictor stands: the exact scores."""

    def __init__(self, spread):
        self.spread = spread

    def __call__(self, queries, rows, touch=None):
        return {name: self.one(query) for name, query in queries.items()}

    def one(self, query):
        x = query.noisy
        scores = [
            x.sigma * (x.latents - x.alpha * MEANS[prompt]) / (x.alpha**2 * self.spread + x.sigma**2)
            for prompt in (query.negative, query.prompt)
        ]
        return _guided(scores if query.guidance not in (None, 1) else scores[1:], query)


def same(ours, theirs):
    # The model's alphas are of float32 betas, the noise is float32.
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def rest(exact, rule, spread=SPREAD, rate=0.2, steps=2000, index=0):
    """Where gradient descent on one step's gradient ends: z, z_src, and the step's noise."""
    torch.manual_seed(3)
    z, z_src = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    for _ in range(steps):
        rows = rows_of(exact, make_tasks(1), z_src, z)
        step = Step(rows, Gaussian(spread), index, rule.timesteps(index))
        gradient = rule.gradient(step).detach()
        z = z - rate * gradient
        if gradient.abs().max() < 1e-11:
            return z, z_src, step
    raise AssertionError(f"no rest: the gradient is still {gradient.abs().max():.2g}")


def test_dds_moves_the_source_by_the_difference_of_the_means(exact):
    # PULL a [(z - mu_tgt) - (z_src - mu_src)] = 0.
    z, z_src, _ = rest(exact, DDS(DDS.Params(**WITHIN)))
    same(z, z_src + SHIFT)


def test_guidance_moves_it_further(exact):
    # eps^w is the score of N(w mu_c, v) here, as mu_null = 0.
    z, z_src, _ = rest(exact, DDS(DDS.Params(**WITHIN | {"guidance_scale": 3})))
    same(z, z_src + 3 * SHIFT)


def test_ids_corrects_noise_that_the_difference_does_not_feel(exact):
    z, z_src, _ = rest(exact, IDS(IDS.Params(**WITHIN, rounds=0)))
    same(z, z_src + SHIFT)


@pytest.mark.parametrize("weight", [0.1, 0.4, 1.6])
def test_the_analytic_pull_shares_the_way(exact, weight):
    # PULL a (d - SHIFT) + weight (a / s) d = 0 for d = z - z_src.
    z, z_src, _ = rest(exact, PivaAnalytic(PivaAnalytic.Params(**WITHIN, preservation_weight=weight)))
    same(z, z_src + SHIFT * PULL / (PULL + weight / S))


@pytest.mark.parametrize("weight", [0.4, 1.0])
def test_untrained_adapters_shorten_the_way_and_do_not_pull(exact, weight):
    # The regulariser is PULL a SHIFT: at weight 1 nothing is left of the edit.
    z, z_src, _ = rest(exact, PivaUntrained(PivaUntrained.Params(**WITHIN, preservation_weight=weight)))
    same(z, z_src + SHIFT * (1 - weight))


def test_pds_rests_between_source_and_edit(exact):
    psi, chi = (float(one) for one in coefficients(ABAR, T, 2))
    z, z_src, _ = rest(exact, PDS(PDS.Params(**WITHIN)))
    same(z, z_src + SHIFT * chi * PULL * A / (psi + chi * PULL * A))


def test_dreamcatalyst_rests_between_source_and_edit(exact):
    rule = DreamCatalyst(DreamCatalyst.Params(**WITHIN, identity_weight=0.2))
    z, z_src, _ = rest(exact, rule)
    edit = (0.2 + 0.8 * (T / 1000) ** (1 / math.e)) * PULL * A
    same(z, z_src + SHIFT * edit / (edit + 0.2 * math.exp(T / 1000)))


def test_ssd_rests_between_source_and_edit(exact):
    # w_t / 2 PULL a (d - mu_src) - w_p / 2 PULL a SHIFT - w_e PULL a mu_tgt + psi e^(t/T) a d = 0.
    z, z_src, _ = rest(exact, SSD(SSD.Params(**WITHIN)))
    pull = 0.075 * math.exp(T / 1000)
    towards = PULL * (MEANS["source"] + SHIFT / 2 + 5.5 * MEANS["target"])
    same(z, z_src + towards / (PULL + pull))


def test_csd_never_rests(exact):
    # Both classifiers are looked at in one place: the difference does not change with z.
    with pytest.raises(AssertionError, match="no rest"):
        rest(exact, CSD(CSD.Params(**WITHIN)), steps=50)


def test_nfsd_at_low_timesteps_rests_at_the_prompts_mean(exact):
    # d_D + s d_C = eps^s on the noisy edit: z = mu - (s / a) n, for which the noise's mean is mu.
    z, _, step = rest(
        exact, NFSD(NFSD.Params(**WITHIN, t_clean=1000, negative_prompt="", weighting="uniform"))
    )
    same(z, MEANS["target"] - S / A * step.edit.noise.double())


def test_sdi_of_sure_prompts_rests_at_their_picture(exact):
    # Of N(mu, 0) every clean prediction is mu, whatever the noise.
    z, _, _ = rest(exact, SDI(SDI.Params(**WITHIN)), spread=0.0)
    same(z, torch.full_like(z, MEANS["target"]))


def test_ism_with_the_inverted_prompt_itself_rests_anywhere_on_its_path(exact):
    # Under the null prompt at guidance 0 both predictions are of one path; the smaller the interval, the nearer to 0.
    sizes = []
    for interval in (80, 8):
        rule = ISM(ISM.Params(**WITHIN | {"guidance_scale": 0}, interval=interval, warmup_steps=0))
        rows = rows_of(exact, make_tasks(1), *torch.randn(2, 1, 4, 8, 8, dtype=torch.float64))
        sizes.append(float(rule.gradient(Step(rows, Gaussian(SPREAD), 0, rule.timesteps(0))).abs().mean()))
    assert sizes[1] < 0.2 * sizes[0]


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_drfs_rests_where_dds_does_unless_it_is_flowedit(exact, shift):
    rule = DRFS(
        DRFS.Params(steps=1, grid_steps=1, t_min=T, t_max=T, guidance_scale=1, source_guidance_scale=1,
                    shift=shift, shift_growth="constant", rates="euler")
    )  # fmt: skip
    z, z_src, _ = rest(exact, rule, rate=0.2 * EVEN)
    # velocity(x) = (1 + s / a) eps - x / a with x_tgt - x_src = (a + e s) d.
    slope = (1 + S / A) * PULL * (A + shift * S) - (A + shift * S) / A + 1 - shift
    same(z, z_src + (1 + S / A) * PULL * A * SHIFT / slope)
    if shift == 0:
        same(z, z_src + SHIFT)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_flowaligns_pull_shares_the_way(exact, weight):
    rule = FlowAlign(
        FlowAlign.Params(steps=1, grid_steps=1, t_min=T, t_max=T, guidance_scale=1, terminal_weight=weight)
    )
    z, z_src, _ = rest(exact, rule, rate=0.2 * EVEN)
    # x_p - x_q = (a + s) d; clean(x) = (x - s eps) / a.
    time, x = S / (A + S), A + S
    slope = time * ((1 + S / A) * PULL * x - x / A) + weight * (x - S * PULL * x) / A
    towards = time * (1 + S / A) * PULL * A - weight * S * PULL
    same(z, z_src + SHIFT * towards / slope)

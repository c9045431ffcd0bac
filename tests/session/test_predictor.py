import pytest
import torch

from methods.piva import Piva
from piva_bench.distillation.adapters import AdapterTrainer
from piva_bench.distillation.params import AdapterSpec
from piva_bench.errors import UnknownName
from piva_bench.session.predictor import Predictor
from piva_bench.session.query import Query, Words
from piva_bench.session.session import Session
from tests.rows import rows_of, shown
from tests.tiny_sd import make_tasks

SPECS = (AdapterSpec("psi", "source", "source"), AdapterSpec("phi", "edit", "target"))
BATCH = 2


@pytest.fixture
def predictor(denoiser):
    adapters = AdapterTrainer(SPECS, Piva.Params(), denoiser, shown(make_tasks(BATCH)), 0)
    for weights in adapters.weights.values():  # adapters that do something
        weights.data += 0.1 * torch.randn_like(weights)
    return Predictor(denoiser, adapters)


@pytest.fixture
def rows(denoiser):
    torch.manual_seed(0)
    z_src, z = torch.randn(2, BATCH, 4, 8, 8)
    return rows_of(denoiser, make_tasks(BATCH), z_src, z)


@pytest.fixture
def session(rows, predictor):
    return Session(rows, predictor)


@pytest.fixture
def edit(session):
    return session.noisy("edit", torch.tensor([30, 800]), session.random(0).noise("x"))


@pytest.fixture
def other(session):
    return session.noisy("source", torch.tensor([5, 6]), session.random(0).noise("y"))


def direct(predictor, rows, noisy, prompt, adapter=None):
    active = predictor.adapters.active([adapter]) if adapter else ()
    return predictor.denoiser.predict_noise(noisy.latents, noisy.t, rows.condition(prompt), active)


@torch.no_grad()
def test_every_kind_of_query_in_one_call(predictor, session, rows, edit, other):
    words = Words(("a cup", "a boat"))
    queries = {
        "edit": Query(edit, "target", adapter="phi"),
        "plain": Query(edit, "source"),
        "guided": Query(edit, "target", 3.0),
        "unguided": Query(edit, "target", 1.0),
        "none": Query(edit, "target", 0.0),
        "null": Query(edit, "null", 3.0),
        "elsewhere": Query(other, "source", 2.0, adapter="psi"),
        "words": Query(edit, words),
        "negative": Query(edit, "target", 3.0, negative="source"),
    }
    with torch.inference_mode():
        eps = session.predict(queries)
    null, target, source = (direct(predictor, rows, edit, name) for name in ("null", "target", "source"))
    psi_null = direct(predictor, rows, other, "null", "psi")
    psi = direct(predictor, rows, other, "source", "psi")
    expected = {
        "edit": direct(predictor, rows, edit, "target", "phi"),
        "plain": source,
        "guided": null + 3 * (target - null),
        "unguided": target,
        "none": null,
        "null": null,
        "elsewhere": psi_null + 2 * (psi - psi_null),
        "words": direct(predictor, rows, edit, words),
        "negative": source + 3 * (target - source),
    }
    assert list(eps) == list(queries)
    for name, value in expected.items():
        torch.testing.assert_close(eps[name], value, atol=1e-4, rtol=1e-4, msg=name)
    assert (psi - direct(predictor, rows, other, "source")).abs().max() > 1e-3


@torch.inference_mode()
def test_equal_rows_are_computed_once(predictor, session, edit):
    session.predict(
        {
            "target": Query(edit, "target", 7.5),
            "again": Query(edit, "target", 3.0),
            "source": Query(edit, "source", 7.5),
            "plain": Query(edit, "source"),
        }
    )
    assert predictor.evaluations == 3  # null, target, source
    assert predictor.differentiated == 0


@torch.inference_mode()
def test_equal_values_at_other_timesteps_are_other_rows(predictor, session, edit):
    turned = session.noisy("edit", edit.t.flip(0), edit.noise)
    eps = session.predict({"a": Query(edit, "source"), "b": Query(turned, "source")})
    assert predictor.evaluations == 2
    assert not torch.allclose(eps["a"], eps["b"])


@torch.no_grad()
def test_a_leaf_is_predicted_with_a_graph_and_the_rest_without(predictor, session, rows, edit):
    leaf = edit.leaf()
    eps = session.predict({"plain": Query(edit, "target", 2.0), "leaf": Query(leaf, "target", 2.0)})
    assert not eps["plain"].requires_grad
    torch.testing.assert_close(eps["leaf"].detach(), eps["plain"], atol=1e-4, rtol=1e-4)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(eps["leaf"].square().sum(), leaf.latents)
    small = 1e-2 * torch.randn_like(slope)
    with torch.no_grad():
        moved = session.predict({"x": Query(edit.replaced(edit.latents + small), "target", 2.0)})["x"]
    change = moved.square().sum() - eps["plain"].square().sum()
    assert float(change) == pytest.approx(float((slope * small).sum()), rel=0.1)
    assert (predictor.evaluations, predictor.differentiated) == (6, 2)


def test_a_rule_that_did_not_ask_takes_no_gradients(edit):
    with torch.inference_mode(), pytest.raises(RuntimeError, match="differentiates = True"):
        edit.leaf()


@pytest.mark.parametrize(
    ("query", "known"),
    [
        ({"prompt": "sourse"}, "source"),
        ({"prompt": "source", "adapter": "pzi"}, "psi"),
        ({"prompt": "null", "model": "x"}, ""),
    ],
)
def test_misspelt_names_are_said(session, edit, query, known):
    with pytest.raises(UnknownName, match=known):
        session.predict({"x": Query(edit, **query)})


def test_noisy_latents_and_what_is_refused(session, edit, denoiser):
    alpha, sigma = denoiser.schedule.alpha_sigma(edit.t)
    torch.testing.assert_close(edit.latents, alpha * session.latents + sigma * edit.noise)
    torch.testing.assert_close(edit.clean(edit.noise), session.latents, atol=1e-4, rtol=1e-4)
    other = edit.replaced(edit.latents + 1)
    torch.testing.assert_close(other.alpha * session.latents + other.sigma * other.noise, other.latents)
    assert other.key != edit.key
    for t in (1000, -1, torch.tensor([5, 1000]), torch.tensor([5.0, 6.0]), torch.tensor([1, 2, 3])):
        with pytest.raises(ValueError, match="timesteps"):
            session.noisy("edit", t, edit.noise)
    with pytest.raises(ValueError, match="noise of the shape"):
        session.noisy("edit", 5, edit.noise[:1])

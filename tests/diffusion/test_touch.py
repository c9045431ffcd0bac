"""Features read and written by query name, and nothing left behind."""

import pytest
import torch

from piva_bench.session.predictor import Predictor
from piva_bench.session.query import Query
from piva_bench.session.session import Session
from tests.rows import rows_of
from tests.tiny_sd import make_tasks

ROWS = 2


@pytest.fixture
def session(denoiser):
    torch.manual_seed(0)
    z_src, z = torch.randn(2, ROWS, 4, 8, 8)
    return Session(rows_of(denoiser, make_tasks(ROWS), z_src, z), Predictor(denoiser))


@pytest.fixture
def queries(session):
    noise = session.random(0).noise("x")
    return {
        "source": Query(session.noisy("source", 300, noise), "source", 3.0),
        "target": Query(session.noisy("edit", 300, noise), "target", 3.0),
    }


@torch.no_grad()
def test_looking_changes_nothing_and_sees_every_site_with_every_query(session, queries, denoiser):
    seen = {}

    def look(site, rows):
        seen[site] = {name: vars(features) for name, features in rows.items()}

    plain, touched = session.predict(queries), session.predict(queries, look)
    for name in queries:
        torch.testing.assert_close(touched[name], plain[name], atol=1e-5, rtol=1e-5)
    assert all(list(rows) == ["source/null", "source", "target/null", "target"] for rows in seen.values())
    attention = {site for site in seen if site.kind != "residual"}
    names = [name for name, _ in denoiser.network.named_modules() if name.endswith(("attn1", "attn2"))]
    assert {site.layer for site in attention} == set(names)
    assert len(attention) == 2 * len(names)
    assert {site.part for site in seen} == {"down", "mid", "up"}
    residual = next(rows for site, rows in seen.items() if site.kind == "residual")
    assert residual["target"]["out"].shape[0] == ROWS


@torch.no_grad()
def test_what_is_seen_is_what_the_network_computes(session, queries, denoiser):
    found, seen = {}, {}
    for name, module in denoiser.network.named_modules():
        if name.endswith(("attn2", ".conv2")):
            module.register_forward_hook(lambda m, i, out, name=name: found.setdefault(name, out))
    single = {"target": Query(queries["target"].noisy, "target")}

    def look(site, rows):
        if site.side == "out":
            seen[site.layer + (".conv2" if site.kind == "residual" else "")] = rows["target"].out

    try:
        session.predict(single)
        hooked = dict(found)
        session.predict(single, look)
    finally:
        for module in denoiser.network.modules():
            for key in [
                k for k, hook in module._forward_hooks.items() if "found" in hook.__code__.co_freevars
            ]:
                del module._forward_hooks[key]
    assert hooked
    for name, value in hooked.items():
        torch.testing.assert_close(seen[name], value, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_keys_and_values_of_another_query_are_used(session, queries):
    def mutual(site, rows):
        if site.kind == "self" and site.side == "in":
            for half in ("", "/null"):
                rows["target" + half].k = rows["source" + half].k
                rows["target" + half].v = rows["source" + half].v

    plain, touched = session.predict(queries), session.predict(queries, mutual)
    torch.testing.assert_close(touched["source"], plain["source"], atol=1e-5, rtol=1e-5)
    assert (touched["target"] - plain["target"]).abs().max() > 1e-4
    # All that a query has taken from itself changes nothing.
    same = {"source": queries["source"], "target": queries["source"]}
    torch.testing.assert_close(session.predict(same, mutual)["target"], plain["source"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_probabilities_are_a_softmax_and_can_be_replaced(session, queries):
    sums = []

    def flatten(site, rows):
        if site.kind == "cross" and site.side == "in":
            target = rows["target"]
            sums.append(target.probabilities.sum(dim=-1))
            target.probabilities = torch.full_like(target.probabilities, 1 / target.k.shape[2])

    plain, touched = session.predict(queries), session.predict(queries, flatten)
    torch.testing.assert_close(torch.stack(sums[:1]), torch.ones_like(torch.stack(sums[:1])))
    assert (touched["target"] - plain["target"]).abs().max() > 1e-4
    torch.testing.assert_close(touched["source"], plain["source"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("where", ["self", "cross", "residual"])
def test_a_method_that_raises_inside_leaves_nothing_behind(session, queries, denoiser, where):
    before = session.predict(queries)
    processors = {
        name: m.processor for name, m in denoiser.network.named_modules() if hasattr(m, "processor")
    }
    hooks = sum(len(m._forward_hooks) for m in denoiser.network.modules())

    def broken(site, rows):
        if site.kind == where:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        session.predict(queries, broken)
    after = session.predict(queries)
    assert all(torch.equal(after[name], before[name]) for name in queries)
    assert processors == {
        n: m.processor for n, m in denoiser.network.named_modules() if hasattr(m, "processor")
    }
    assert hooks == sum(len(m._forward_hooks) for m in denoiser.network.modules())


@torch.no_grad()
def test_a_leaf_and_a_plain_query_are_seen_one_after_the_other(session, queries):
    seen = []
    mixed = {"leaf": Query(queries["target"].noisy.leaf(), "target"), "plain": queries["source"]}

    def look(site, rows):
        if site.side == "out" and site.kind == "self":
            seen.append({name: features.out.requires_grad for name, features in rows.items()})

    session.predict(mixed, look)
    half = len(seen) // 2
    assert all(one == {"plain/null": False, "plain": False} for one in seen[:half])
    assert all(one == {"leaf": True} for one in seen[half:])

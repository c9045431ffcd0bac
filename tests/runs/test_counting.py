"""FLOPs and memory are counted as a pencil, PyTorch's own counter and a ledger of sizes have them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from piva_bench.runs.counting import Counting


def test_products_are_counted_forward_and_backward_apart():
    x, w = torch.randn(64, 32, requires_grad=True), torch.randn(32, 16)
    with Counting() as count:
        (x @ w).sum().backward()
    assert (count.forward, count.backward) == (2 * 64 * 32 * 16, 2 * 64 * 32 * 16)
    w.requires_grad_()
    with Counting() as count:
        y = x @ w
        torch.autograd.grad(y.sum(), [x, w])
        y.detach() @ w.T
    assert count.forward == 2 * count.backward / 2 == 2 * 2 * 64 * 32 * 16


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_networks_are_counted_as_pytorch_counts_them(mode):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Flatten(2), nn.Linear(36, 5), nn.Conv1d(8, 2, 3)
    )
    x = torch.randn(2, 3, 6, 6)
    with mode(), Counting() as ours:
        net(x)
    with FlopCounterMode(display=False) as theirs:
        net(x)
    assert ours.forward == theirs.get_total_flops() > 0
    assert ours.backward == 0


def test_attention_on_a_cpu_is_two_products_forward():
    q = torch.randn(1, 2, 10, 8, requires_grad=True)
    with Counting() as count:
        nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    assert count.forward == 2 * (2 * 2 * 10 * 10 * 8)
    assert count.backward > count.forward


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 100), st.booleans()), min_size=1, max_size=20))
def test_memory_is_that_of_the_tensors_that_there_are(moves):
    held, most = [], 0
    with Counting() as count:
        for size, drop in moves:
            held.append(torch.zeros(size))
            most = max(most, 4 * sum(map(len, held)))
            held[0].add_(1)  # in place: nothing new
            held[-1].view(-1)[:1].t()  # nor here
            if drop:
                held.pop(0)
        assert count.alive == 4 * sum(map(len, held))
    assert count.peak == most


def test_what_was_there_before_is_not_counted_and_what_a_graph_holds_is():
    x = torch.ones(1000, requires_grad=True)
    with Counting() as count:
        x.detach().mul_(2)
        x.view(10, 100).t()
    assert count.peak == 0
    with Counting() as count:
        loss = x.exp().exp().sum()
        held = count.alive
        loss.backward()
    assert held == 2 * 4000 + 4
    assert count.alive == 4000 + 4  # the gradient, and the loss

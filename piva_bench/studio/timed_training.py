"""A training loop with a budget in minutes that survives being killed.

The budget counts seconds of training over all runs. The learning rate follows it: a short warm-up, then half
a cosine to zero when the budget is spent, so that a training of any length ends well annealed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from piva_bench.errors import ModelError
from piva_bench.files import atomic_file
from piva_bench.studio.data_parallel import average, rank_and_size

CHECKPOINT_SECONDS = 120.0
LOG_STEPS = 100
WARMUP_STEPS = 100


@contextmanager
def half_precision() -> Iterator[None]:
    """Forward passes in bfloat16 where the CPU computes in it: half again as fast; elsewhere nothing changes.

    The fused attention is six times slower in bfloat16 than in float32 on a CPU, so the plain one is taken.
    """
    # There is no public way to ask.
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()),
        sdpa_kernel(SDPBackend.MATH),
    ):
        yield


def say(line: str) -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)  # noqa: T201


def learning_rate_factor(step: int, fraction: float) -> float:
    """Share of the peak learning rate at a step, when ``fraction`` of the budget is spent."""
    return min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that it is there wholly or not at all, after a power cut too."""
    with atomic_file(path) as file:
        torch.save(dict(state), file)


def earlier_training(report: Mapping[str, Any]) -> tuple[int, float]:
    """Steps and seconds that a trainer's report tells of: what is behind the weights beside it."""
    return report.get("steps", 0), 60 * report.get("minutes", 0.0)


def train_for(
    minutes: float,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_at: Callable[[int], Tensor],
    checkpoint: Path,
    signature: Mapping[str, Any],
    resume: bool,
    earlier: tuple[int, float] = (0, 0.0),
    log: Callable[[str], None] = say,
) -> tuple[int, float]:
    """Minimise ``loss_at(step)`` until ``minutes`` of training are spent; earlier runs count when resuming.

    ``loss_at`` must draw its batch from the number it is given alone: then nothing random needs storing, and a
    resumed training sees the batches it would have seen. Of several processes (see
    :mod:`piva_bench.studio.data_parallel`) each takes every so many batches, and they step by the mean of their
    gradients; the numbers then count batches, not steps. ``signature`` names what the checkpoint belongs to
    (model shape, seed ...); a checkpoint with another one is refused. ``earlier`` is what is behind the weights that
    a training without a checkpoint starts from, steps and seconds; it does not count against the budget.

    Returns the number of steps and the seconds trained, over all runs and with what was earlier.

    Raises:
        ModelError: the checkpoint belongs to another training, or the loss is no longer finite.
    """
    step, spent = 0, 0.0
    rank, processes = rank_and_size()
    peaks = [group["lr"] for group in optimizer.param_groups]
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if state["signature"] != dict(signature):
            raise ModelError(
                f"{checkpoint} belongs to a training with other settings; delete it to start anew"
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["seconds"]
        earlier = state["earlier"]
        log(f"resumed at step {step} after {spent / 60:.1f} minutes")

    def save() -> None:
        if rank:
            return
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "seconds": spent,
            "earlier": earlier,
        }
        save_atomically({**state, "signature": dict(signature)}, checkpoint)

    model.train()
    last_save, losses = spent, list[float]()
    while spent < 60 * minutes:
        start = time.monotonic()
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * learning_rate_factor(step, spent / (60 * minutes))
        loss = loss_at(processes * step + rank)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        average([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if not math.isfinite(loss.item()):
            raise ModelError(f"the loss is {loss.item()} at step {step}; resume from the last checkpoint")
        losses.append(loss.item())
        elapsed = torch.tensor([time.monotonic() - start])
        average([elapsed])  # one clock, so that all stop at the same step
        step, spent = step + 1, spent + elapsed.item()
        if rank == 0 and step % LOG_STEPS == 0:
            log(f"step {step}  loss {sum(losses) / len(losses):.4f}  {spent / 60:.1f} of {minutes:g} minutes")
            losses.clear()
        if spent - last_save >= CHECKPOINT_SECONDS:
            save()
            last_save = spent
    save()
    return earlier[0] + step, earlier[1] + spent

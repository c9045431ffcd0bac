"""How many edits fit into memory together: from what is free and what an edit was seen to take."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from piva_bench import heap
from piva_bench.data.sample import UnreadableSample
from piva_bench.runs.guard import undisturbed
from piva_bench.runs.kinds import KINDS
from piva_bench.runs.plan import Unit

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser

MOST = {"cpu": 8, "cuda": 64}
"""Most edits at once. On a CPU a row of the embedded UNet costs no less in larger batches, and smaller ones share out
better; the other is assumed."""
SHARE = 0.8
"""Of the free memory, what a batch may take; assumed. The rest is for fragments and for other processes."""


class PeakMemory:
    """Highest memory in use since this object was made: of the GPU, else of the process.

    Where the system keeps no count that can be set back (macOS), it is the highest since the process started.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            heap.release_freed_memory()
            # 5 sets VmHWM back to the memory in use now; proc(5).
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
        self._before = self._peak() if device.type != "cuda" else torch.cuda.memory_allocated(device)

    def megabytes(self) -> float:
        """In MB (10^6 bytes), all that was in use."""
        return round(self._peak() / 1e6, 1)

    def growth(self) -> int:
        """Bytes beyond those in use when this object was made."""
        return max(self._peak() - self._before, 0)

    def _peak(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        with suppress(OSError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
        # Linux counts in kibibytes, macOS in bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def automatic_batch_size(
    units: Sequence[Unit], denoiser: Denoiser, resolution: int, workers: int = 1, *, trial: bool = False
) -> int:
    """Edits to compute together: what the settings among ``units`` all have room for.

    One step of one edit of each setting, and of two if memory may be short, shows what it takes. Settings without
    steps count for nothing: they take a picture at a time. The CPU's memory is shared by so many workers. A trial
    (see ``Kind.task``) makes nothing that is kept.
    """
    most = MOST.get(denoiser.device.type, MOST["cpu"])
    by_variant: dict[str, list[Unit]] = {}
    for unit in units:
        if isinstance(unit.sample, UnreadableSample):
            continue
        by_variant.setdefault(unit.variant.key, []).append(unit)
    sizes = [most]
    for alike in by_variant.values():
        if len(alike) > 1 and alike[0].variant.method().steps is not None:
            budget = int(
                SHARE * free_memory(denoiser.device) / (workers if denoiser.device.type == "cpu" else 1)
            )
            sizes.append(fitting(_trial(alike[:2], denoiser, resolution, trial), budget, min(sizes)))
    return min(sizes)


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's or the machine's memory ran out; PyTorch has no type of its own for the latter."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def fitting(peak: Callable[[int], int | None], budget: int, most: int) -> int:
    """The largest batch whose memory stays within a budget, by a straight line through those of 1 and 2 edits.

    A power of two (or ``most``), so that a little more or less free memory does not change a batch, and with it the
    last digits of its edits.

    Args:
        peak: bytes that so many edits take; None if it is more than there are.
        budget: bytes.
        most: never more edits than this.
    """
    one = peak(1)
    if one is not None and one * most <= budget:
        return most
    two = peak(2) if one is not None and one < budget else None
    if one is None or two is None:
        return 1
    size = 1 + (budget - one) // max(two - one, 1)
    return min(most, 1 << (size.bit_length() - 1))


def free_memory(device: torch.device) -> int:
    """Bytes that can be had: of the GPU, PyTorch's own reserve included, or of the machine."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return int(psutil.virtual_memory().available)


def _trial(
    units: Sequence[Unit], denoiser: Denoiser, resolution: int, trial: bool
) -> Callable[[int], int | None]:
    """Bytes that one step takes, by number of edits."""
    variant = units[0].variant
    kind = KINDS[variant.kind]

    def peak(count: int) -> int | None:
        # What is kept for other edits would make the second trial another one than the first.
        denoiser.kept, kept = None, denoiser.kept
        try:
            tasks = [
                kind.task(unit.sample, variant, resolution, denoiser.device, trial=trial)
                for unit in units[:count]
            ]
            # A fit of sources takes no more at once than the step, and would be kept.
            few = {"steps": 1, "source_steps": 0}
            known = {name: few[name] for name in few.keys() & type(variant.params).model_fields.keys()}
            short = replace(variant, params=variant.params.model_copy(update=known))
            memory = PeakMemory(denoiser.device)
            with undisturbed(lambda line: None):  # the run itself will tell
                kind.timed_edit(short.method(), tasks, denoiser, units[0].seed)
            return memory.growth()
        except (Exception, SystemExit) as error:  # what else is wrong, the run itself will find and tell
            return None if out_of_memory(error) else 0
        finally:
            denoiser.kept = kept

    return peak

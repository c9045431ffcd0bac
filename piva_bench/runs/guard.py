"""What a method leaves changed in its process is put back, so that it cannot change what the next one computes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch


class _Setting(NamedTuple):
    """Something global: its name, how it is read, and how it is set."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _set_default_device(device: torch.device) -> None:
    # The processor is what torch does by itself; to say so would slow down every call.
    torch.set_default_device(None if device.type == "cpu" else device)


def _set_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _folder() -> str | None:
    with suppress(OSError):  # it may have been removed
        return str(Path.cwd())
    return None


def _set_folder(folder: str | None) -> None:
    if folder is not None:
        with suppress(OSError):
            os.chdir(folder)


SETTINGS = (
    _Setting("the default device", torch.get_default_device, _set_default_device),
    _Setting("the default type of numbers", torch.get_default_dtype, torch.set_default_dtype),
    _Setting("whether gradients are recorded", torch.is_grad_enabled, torch.set_grad_enabled),
    _Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    _Setting(
        "deterministic algorithms",
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    _Setting(
        "the precision of products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    _Setting("the environment", lambda: dict(os.environ), _set_environment),
    _Setting("the working directory", _folder, _set_folder),
)
"""Whoever changes one of these for a while has to change it back."""


@contextmanager
def undisturbed(warn: Callable[[str], None]) -> Iterator[None]:
    """Within the block settings may change; after it they are as before, and so are the global generators' states.

    Args:
        warn: told which were left changed. Of the generators' states nobody is told: drawing is what they are for.
    """
    before = [setting.read() for setting in SETTINGS]
    state = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    theirs, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002 (what a method may use)
    try:
        yield
    finally:
        changed = []
        for setting, value in zip(SETTINGS, before, strict=True):
            now = setting.read()
            if now == value:
                continue
            setting.write(value)
            # New variables are put back, too, but libraries set some when they are imported: no fault of the method.
            if not (isinstance(value, dict) and value.items() <= now.items()):
                changed.append(setting.name)
        torch.set_rng_state(state)
        if on_gpu is not None:
            torch.cuda.set_rng_state_all(on_gpu)
        np.random.set_state(theirs)  # noqa: NPY002
        random.setstate(pythons)
        if changed:
            warn(f"{', '.join(changed)}: left changed, and put back")

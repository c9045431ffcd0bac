"""The C library's heap: whether freed memory goes back to the system at once.

By default glibc maps every large tensor anew and unmaps it when it is freed, so that the system hands out and clears
the same pages at every layer. That was 12 % of the processor time of a batched UNet pass on a CPU.
"""

from __future__ import annotations

import ctypes
import os

# mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Lets this process use freed memory again without asking the system; what the user's environment says wins."""
    call = _function("mallopt")
    if call is not None and not any(name in os.environ for name in _VARIABLES):
        call(_M_MMAP_THRESHOLD, 1 << 30)
        call(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def release_freed_memory() -> None:
    """Gives freed memory back to the system, so that what is in use can be told from what is kept."""
    if (call := _function("malloc_trim")) is not None:
        call(0)


def _function(name: str) -> ctypes._FuncPointer | None:
    """A function of glibc; None where there is another C library."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except TypeError:  # Windows
        return None

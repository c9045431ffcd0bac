"""piva-bench: a benchmark for identity-preserving, text-guided editing by score distillation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Edited", "edit", "load_results", "prepare"]

if TYPE_CHECKING:
    from piva_bench.face import Edited, edit, load_results


def prepare() -> None:
    """Makes the process ready for torch: call it before torch is imported, as the command line does.

    OpenMP's default busy-waiting makes torch up to 90 times slower when anything else uses the cores (a value of
    ``OMP_WAIT_POLICY`` that is set wins), and torchvision cannot be imported beside a CPU build of torch by itself.
    ``edit`` and ``load_results`` call it; importing the library changes nothing.
    """
    import os

    from piva_bench import _torchvision

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _torchvision.install()


def __getattr__(name: str) -> Any:
    if name in ("Edited", "edit", "load_results"):
        from piva_bench import face

        return getattr(face, name)
    raise AttributeError(f"piva_bench has no {name}")

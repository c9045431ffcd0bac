"""Training that edits have in common: an adapter that learns the source does not know what it is for."""

from __future__ import annotations

from torch import Tensor

from piva_bench.diffusion.kept import KeptRows, digest


class SourceTraining:
    """The training of one adapter, of every sample of a batch, on the unchanging source.

    Its weights after any step are a function of sample, seed, prompt, settings and the steps so far, and so
    are kept under a key of these. As long as they are found, no step is made. When one is not, the steps so far
    are repeated from the start, because the optimiser's state is not kept, and from there on every step is made.

    Args:
        kept: where weights are kept.
        keys: for each sample, all that its weights depend on before the first step.
    """

    def __init__(self, kept: KeptRows, keys: list[bytes]) -> None:
        self._kept, self._keys = kept, keys
        self._steps: list[tuple[int, str]] = []
        self._found_all = True

    def step(self, index: int, purpose: str, weights: Tensor) -> tuple[Tensor | None, list[tuple[int, str]]]:
        """Weights and loss [B, P + 1] after this step if they are kept; else None, and the steps to repeat first.

        Args:
            index: number of the step.
            purpose: of its random numbers.
            weights: [B, P], for their size and device.
        """
        self._keys = [digest(key, b"%d" % index, purpose.encode()) for key in self._keys]
        earlier = list(self._steps)
        self._steps.append((index, purpose))
        if not self._found_all:
            return None, []
        found = self._kept.get(self._keys, weights.new_empty(0, weights.shape[1] + 1))
        self._found_all = found is not None
        return found, [] if self._found_all else earlier

    def keep(self, rows: Tensor) -> None:
        """Keeps weights and loss [B, P + 1] of the step just made."""
        self._kept.put(self._keys, rows)

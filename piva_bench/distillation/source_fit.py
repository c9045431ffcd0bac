"""Adapters fitted to sources before any edit begins: made once for each source, and kept on disk.

What such an adapter learns depends on the source's pictures and prompt, the model, the seed and the adapter's own
parameters; not on target, rule or weight. So its random numbers are drawn by the source's name, not the sample's, and
every run, sweep and method that asks for the same finds it. It lies below ``PIVA_BENCH_ADAPTERS``, by default
``~/.cache/piva-bench/adapters``: weights and AdamW's two moments, so that training goes on beside the edit as if it had
never been interrupted.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from piva_bench.distillation.adapters import AdapterTrainer
from piva_bench.distillation.parameterization import Parameterization
from piva_bench.distillation.params import AdapterSpec, SourceAdapterParams
from piva_bench.distillation.state import optimizer_tensors
from piva_bench.errors import DataError, MethodError
from piva_bench.kept import Write, kept_together
from piva_bench.key import content_key
from piva_bench.session.rows import Rows

FORMAT = "piva-bench source adapter 1"
"""The number is to be raised when a change to the fit changes its weights."""
PARTS = ("weights", "exp_avg", "exp_avg_sq")
_DECIDE = {
    "adapter", "lora_rank", "lora_layers", "lora_learning_rate", "prompt_dropout", "source_steps", "source_draws",
}  # fmt: skip


def fit_sources(trainer: AdapterTrainer, edit: Parameterization) -> None:
    """Puts a trainer's adapters of the source, and their optimisers, where ``source_steps`` lead.

    Those that are not kept are fitted together, in passes no wider than the batch's own. To be called before the
    trainer has trained.

    Raises:
        MethodError: an adapter learns the source under another prompt than its own.
        UserError: they cannot be stored.
    """
    params = trainer.params
    if not isinstance(params, SourceAdapterParams) or not params.source_steps:
        return
    for spec in [spec for spec in trainer.specs if spec.data == "source"]:
        if spec.prompt not in ("source", "null"):
            raise MethodError(
                f"Adapter {spec.name} learns the source under the {spec.prompt} prompt, so it cannot be fitted once "
                "for each source: give it the source prompt, or leave source_steps at 0."
            )
        fit = _Fit(trainer, params, replace(spec, name="source"), edit)
        parts = fit.kept()
        # Counted where it was found, too: what an edit costs does not depend on what others did before.
        trainer.begin(
            spec.name, parts, params.source_steps, params.source_steps * params.source_draws * edit.views
        )


@dataclass(frozen=True)
class _Some:
    """Sources as a batch of their own."""

    sample_ids: tuple[str, ...]
    views: int
    still: bool = True


class _Fit:
    """One adapter of every source of a batch."""

    def __init__(
        self, trainer: AdapterTrainer, params: SourceAdapterParams, spec: AdapterSpec, edit: Parameterization
    ) -> None:
        self.trainer, self.params, self.spec, self.edit = trainer, params, spec, edit
        self.denoiser, self.seed = trainer.denoiser, trainer.draws.seed
        names = edit.source_names
        # Edits of one source have its adapter in common: the first sample of each is fitted.
        self.samples = [names.index(name) for name in dict.fromkeys(names)]
        self.rows = [list(dict.fromkeys(names)).index(name) for name in names]

    def kept(self) -> list[Tensor]:
        """``PARTS`` [B, P] of the batch's samples."""
        keys = [self._key(self.edit.source_names[sample]) for sample in self.samples]
        read = {f"{key}.safetensors": key for key in keys}
        found = kept_together("adapters", list(read), lambda path: _read(path, read[path.name]), self._make)
        return [torch.stack([found[row][part] for row in self.rows]) for part in range(len(PARTS))]

    def _key(self, name: str) -> str:
        network = self.denoiser if self.params.adapter == "lora" else self.denoiser.need_depth_control()
        return content_key(
            {
                "format": FORMAT,
                "source": name,
                "prompt": self.spec.prompt,
                "model": self.denoiser.fingerprint,
                "adapted": network.fingerprint,
                "dtype": str(self.denoiser.dtype),
                "views": self.edit.views,
                "seed": self.seed,
                "params": self.params.model_dump(mode="json", include=_DECIDE),
            }
        )

    def _make(self, missing: Sequence[int]) -> list[Write]:
        """Fits the sources of these numbers; gives what writes them."""
        widest = len(self.edit.sample_ids) * self.params.aux_draws
        together = max(1, widest // self.params.source_draws)
        writes: list[Write] = []
        for start in range(0, len(missing), together):
            numbers = missing[start : start + together]
            made = self._fitted([self.samples[number] for number in numbers])
            for number, parts in zip(numbers, zip(*made, strict=True), strict=True):
                key = self._key(self.edit.source_names[self.samples[number]])
                writes.append(partial(_write, key=key, parts=parts))
        return writes

    def _fitted(self, samples: Sequence[int]) -> list[Tensor]:
        """``PARTS`` [len(samples), P] after the fit."""
        names = tuple(self.edit.source_names[sample] for sample in samples)
        some = _Some(names, self.edit.views)
        trainer = AdapterTrainer([self.spec], self.params, self.denoiser, some, self.seed)
        for index in range(self.params.source_steps):
            rows = Rows.of(self.edit.observe_sources(index, samples), self.denoiser, self.seed)
            lesson = trainer.lesson(index, rows, self.spec, "fit", self.params.source_draws)
            trainer.learn(trainer.forward([self.spec], [lesson]))
        state = optimizer_tensors(trainer.optimizers[self.spec.name], "adam")
        return [trainer.weights[self.spec.name], *(state[f"adam/0/{name}"] for name in PARTS[1:])]


def _write(file: BinaryIO, key: str, parts: Sequence[Tensor]) -> None:
    tensors = {name: part.detach().cpu().clone() for name, part in zip(PARTS, parts, strict=True)}
    # One entry: several would be written in any order, and equal fits are to be equal files.
    file.write(save(tensors, metadata={FORMAT: f"{key} {_digest([*tensors.values()])}"}))


def _read(path: Path, key: str) -> list[Tensor]:
    """``PARTS`` [P] of a file.

    Raises:
        DataError: it is missing, or not what was written; the latter is told, too.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            words, parts = file.metadata() or {}, [file.get_tensor(name) for name in PARTS]
    except (OSError, SafetensorError):
        words, parts = {}, []
    if words.get(FORMAT) != f"{key} {_digest(parts)}":
        warnings.warn(f"{path} is damaged: the adapter in it is fitted again", stacklevel=2)
        raise DataError(f"{path} is damaged")
    return parts


def _digest(parts: Sequence[Tensor]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part.numpy().tobytes())
    return state.hexdigest()

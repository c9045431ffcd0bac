"""Explicit downloads of models: the only place of the package that reaches the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from piva_bench.errors import UnknownName, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence


def fetchable() -> dict[str, str]:
    """What `fetch` knows: name to where it comes from."""
    from piva_bench.diffusion.aliases import PUBLISHED
    from piva_bench.metrics.evaluators import EVALUATORS

    models = {alias.name: f"{alias.repository}@{alias.revision[:8]}" for alias in PUBLISHED.values()}
    evaluators = {e.name: e.url or f"{e.repository}@{e.revision[:8]}" for e in EVALUATORS.values()}
    return {**models, **evaluators}


def fetch(name: str) -> Path:
    """Downloads a model by alias or an evaluator by name into the caches where it is looked for.

    Raises:
        UnknownName: nothing of this name.
        UserError: no network, no such revision, a full disk ...
    """
    from piva_bench.diffusion.aliases import PUBLISHED
    from piva_bench.metrics.evaluators import EVALUATORS

    if alias := PUBLISHED.get(name):
        return _from_hub(name, alias.repository, alias.revision, alias.files)
    if name not in EVALUATORS:
        raise UnknownName("model", name, fetchable())
    evaluator = EVALUATORS[name]
    if evaluator.url:
        return _plain_file(name, evaluator.url, evaluator.files[0])
    return _from_hub(name, evaluator.repository, evaluator.revision, evaluator.files)


def fetch_dataset() -> Path:
    """Downloads PIE-Bench++ into the hub's cache.

    Raises:
        UserError: no network, a full disk ...
    """
    from huggingface_hub import snapshot_download

    from piva_bench.data.pie_pp import REPOSITORY, SPLIT

    try:
        return Path(
            snapshot_download(REPOSITORY, repo_type="dataset", allow_patterns=[f"*/{SPLIT}-*.parquet"])
        )
    except Exception as error:  # a dozen types, from httpx's to the hub's own
        raise UserError(f"Cannot fetch pie_pp from {REPOSITORY}: {_reason(error)}") from error


def _from_hub(name: str, repository: str, revision: str, files: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    except Exception as error:  # a dozen types, from httpx's to the hub's own
        raise UserError(f"Cannot fetch {name} from {repository}: {_reason(error)}") from error


def _plain_file(name: str, url: str, file: str) -> Path:
    import torch

    from piva_bench.metrics.evaluators import torch_cache

    path = torch_cache() / file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            digest = file.rpartition("-")[2].removesuffix(".pth")
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
    except Exception as error:  # urllib's, socket's, and RuntimeError for a wrong hash
        raise UserError(f"Cannot fetch {name} from {url}: {_reason(error)}") from error
    return path


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())[:300]

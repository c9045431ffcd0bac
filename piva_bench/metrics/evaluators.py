"""Where the paper protocols' models lie, and what to say when they do not.

Nothing here reaches a network. A model is looked for, in this order, at the path of its own variable
(``PIVA_BENCH_DINO_VITB8`` ...), below the evaluators' folder (``PIVA_BENCH_EVALUATORS``, also the option
--evaluators), and in the caches that ``piva-bench models fetch`` and the libraries themselves fill.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from piva_bench import hub_cache
from piva_bench.errors import ModelError, UnknownName

ROOT_VARIABLE = "PIVA_BENCH_EVALUATORS"


@dataclass(frozen=True)
class Evaluator:
    """A model that a protocol measures with.

    Attributes:
        name: how commands and messages call it; also its folder's name.
        title: what it is.
        files: the files that are read; the first one must be there.
        repository: on the Hugging Face hub; empty for a plain file of torch.hub.
        revision: commit of the repository.
        url: address of a plain file whose name ends in the first digits of its SHA-256.
        license: of the weights, as their publishers state it.
    """

    name: str
    title: str
    files: tuple[str, ...]
    repository: str = ""
    revision: str = "main"
    url: str = ""
    license: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that names its place."""
        return "PIVA_BENCH_" + self.name.upper().replace("-", "_")

    def is_at(self, folder: Path) -> bool:
        """Whether its weights are in a folder, under their own name or as ``model.safetensors``."""
        return any((folder / name).is_file() for name in (self.files[0], "model.safetensors"))


_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_config.json")
_TORCH = "https://download.pytorch.org/models/"

EVALUATORS = {
    evaluator.name: evaluator
    for evaluator in (
        Evaluator(
            "dino-vitb8", "DINO ViT-B/8", ("model.safetensors",), "timm/vit_base_patch8_224.dino",
            license="Apache-2.0",
        ),
        Evaluator(
            "dinov2-base", "DINOv2 ViT-B/14", ("model.safetensors", "config.json"), "facebook/dinov2-base",
            license="Apache-2.0",
        ),
        Evaluator(
            "clip-vit-l14", "CLIP ViT-L/14 in transformers' format",
            ("model.safetensors", "config.json", "vocab.json", "merges.txt", "tokenizer.json",
             "tokenizer_config.json", "special_tokens_map.json"),
            "openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41", license="MIT",
        ),
        Evaluator("lpips-squeeze", "SqueezeNet 1.1, the trunk of LPIPS-squeeze",
                  ("squeezenet1_1-b8a52dc0.pth",), url=_TORCH + "squeezenet1_1-b8a52dc0.pth",
                  license="BSD-3-Clause"),
        Evaluator("lpips-alex", "AlexNet, the trunk of LPIPS-alex",
                  ("alexnet-owt-7be5be79.pth",), url=_TORCH + "alexnet-owt-7be5be79.pth",
                  license="BSD-3-Clause"),
        Evaluator("lpips-vgg", "VGG-16, the trunk of LPIPS-vgg",
                  ("vgg16-397923af.pth",), url=_TORCH + "vgg16-397923af.pth", license="BSD-3-Clause"),
        Evaluator("openclip-vit-l14", "OpenAI's CLIP ViT-L/14 in open_clip's format", _CLIP_FILES,
                  "timm/vit_large_patch14_clip_224.openai", license="MIT"),
        Evaluator("openclip-vit-b32", "OpenAI's CLIP ViT-B/32 in open_clip's format", _CLIP_FILES,
                  "timm/vit_base_patch32_clip_224.openai", license="MIT"),
        Evaluator("openclip-vit-h14", "LAION's CLIP ViT-H/14 in open_clip's format", _CLIP_FILES,
                  "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", license="MIT"),
    )
}  # fmt: skip


def evaluators_root() -> Path:
    """The folder whose subfolders are named after the evaluators."""
    chosen = os.environ.get(ROOT_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "piva-bench" / "evaluators"


def get_evaluator(name: str) -> Evaluator:
    """The evaluator of this name; ``UnknownName`` otherwise."""
    if name not in EVALUATORS:
        raise UnknownName("evaluator", name, EVALUATORS)
    return EVALUATORS[name]


def locate(name: str) -> Path:
    """The folder that holds an evaluator's files.

    Raises:
        ModelError: it is nowhere; the line says where it may be put and which command fetches it.
    """
    evaluator = get_evaluator(name)
    if named := os.environ.get(evaluator.variable):
        path = Path(named).expanduser()
        folder = path.parent if path.is_file() else path
        if evaluator.is_at(folder):
            return folder
        raise ModelError(f"{evaluator.variable} names {path}, which holds no {evaluator.files[0]}.")
    folder = evaluators_root() / name
    if evaluator.is_at(folder):
        return folder
    cached = _in_torch_cache(evaluator) if evaluator.url else in_hub_cache(evaluator)
    if cached is not None:
        return cached
    raise ModelError(
        f"{evaluator.title} is missing: `piva-bench models fetch {name}` gets it, or put "
        f"{evaluator.files[0]} into {folder} or into a folder named by {evaluator.variable}."
    )


def in_hub_cache(evaluator: Evaluator) -> Path | None:
    """The folder of the hub's cache that holds it, if there is one."""
    folder = hub_cache.snapshot(evaluator.repository, evaluator.revision)
    return folder if folder and (folder / evaluator.files[0]).is_file() else None


def torch_cache() -> Path:
    """Where torch.hub keeps plain weight files."""
    home = os.environ.get("TORCH_HOME") or os.path.join(  # noqa: PTH118  as torch.hub builds it
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"
    )
    return Path(home).expanduser() / "hub" / "checkpoints"


def _in_torch_cache(evaluator: Evaluator) -> Path | None:
    folder = torch_cache()
    return folder if evaluator.is_at(folder) else None

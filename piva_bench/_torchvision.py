"""Lets torchvision be imported beside a CPU build of torch.

The torchvision wheel on PyPI is linked against CUDA. Beside a CPU-only torch its ``_C.so`` does not load, and
torchvision then fails at import while registering fakes for two operators that ``_C.so`` would have defined
("operator torchvision::nms does not exist"); it takes open_clip, lpips, peft, timm, torchmetrics and parts of
transformers down with it. Defining those two schemas first is enough for all of them. Operators themselves
(``ops.nms``, image decoding) stay unavailable and raise torchvision's own clear error.

Where ``_C.so`` loads, nothing is changed. torch is not imported before torchvision is.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

# The operators torchvision registers fakes for by name, with the schemas its C++ sources declare.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_fragments: list[Any] = []  # a torch.library.Library withdraws its definitions when it is collected


def define_missing_schemas(package: Path) -> bool:
    """Defines torchvision's two operator schemas if the extension in ``package`` cannot be loaded.

    Args:
        package: torchvision's package directory.

    Returns:
        Whether schemas were defined, that is, whether the extension was unusable.
    """
    import torch

    try:
        torch.ops.load_library(str(next(package.glob("_C.*"))))
        return False
    except (StopIteration, OSError):
        fragment = torch.library.Library("torchvision", "FRAGMENT")
        for name, schema in _SCHEMAS.items():
            if not hasattr(torch.ops.torchvision, name):
                fragment.define(schema)
        _fragments.append(fragment)
        return True


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        define_missing_schemas(Path(self.path).parent)
        super().exec_module(module)


class _Finder:
    # Not derived from importlib.abc.MetaPathFinder, whose import alone takes 30 ms; nor does it need to be.

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install() -> None:
    """Puts the import hook in place, once; does nothing if torchvision is already imported."""
    if "torchvision" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())

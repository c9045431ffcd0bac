import subprocess
import sys

import pytest


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False
    )


def test_importing_the_package_is_cheap_and_lazy():
    result = python(
        "import sys, piva_bench; print([m for m in ('torch', 'torchvision', 'typer') if m in sys.modules])"
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_importing_the_library_changes_no_variable_and_no_import():
    code = "import os, sys; before = dict(os.environ), list(sys.meta_path); import piva_bench, piva_bench.plugin; "
    code += "print(before == (dict(os.environ), list(sys.meta_path)), 'torch' in sys.modules)"
    assert python(code).stdout.strip() == "True False"


def test_openmp_does_not_spin_unless_asked_to():
    code = "import os{}; import piva_bench; piva_bench.prepare(); print(os.environ['OMP_WAIT_POLICY'])"
    unset = "; os.environ.pop('OMP_WAIT_POLICY', None)"
    assert python(code.format(unset)).stdout.strip() == "PASSIVE"
    assert python(code.format("; os.environ['OMP_WAIT_POLICY'] = 'ACTIVE'")).stdout.strip() == "ACTIVE"


def test_torchvision_works_after_the_package_is_imported():
    """In a fresh process, with the libraries that need it; resampling is one thing they use of it."""
    result = python(
        "import piva_bench; piva_bench.prepare()\n"
        "import open_clip, lpips, torch, torchvision\n"
        "from torchvision.transforms import v2\n"
        "print(v2.functional.resize(torch.zeros(3, 8, 8), [4, 4]).shape, torchvision.__spec__.origin)"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("torch.Size([3, 4, 4])")


def test_asking_whether_torchvision_exists_does_not_import_torch():
    code = "import piva_bench, sys; piva_bench.prepare(); from importlib.util import find_spec as f; "
    code += "print(bool(f('torchvision')), 'torch' in sys.modules)"
    assert python(code).stdout.strip() == "True False"


def test_a_loadable_extension_is_left_alone(tmp_path, monkeypatch):
    import torch

    from piva_bench import _torchvision

    (tmp_path / "_C.so").write_bytes(b"")
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    assert _torchvision.define_missing_schemas(tmp_path) is False
    assert loaded == [str(tmp_path / "_C.so")]


@pytest.mark.parametrize("file", ["_C.so", None])
def test_a_broken_or_missing_extension_gets_its_schemas(tmp_path, file):
    import torch

    from piva_bench import _torchvision

    if file:
        (tmp_path / file).write_bytes(b"no library")
    assert _torchvision.define_missing_schemas(tmp_path) is True
    assert torch.ops.torchvision.nms is not None


def test_installing_twice_is_installing_once():
    from piva_bench import _torchvision

    finders = [finder for finder in sys.meta_path if type(finder).__module__ == "piva_bench._torchvision"]
    _torchvision.install()
    assert len(finders) <= 1
    assert finders == [f for f in sys.meta_path if type(f).__module__ == "piva_bench._torchvision"]

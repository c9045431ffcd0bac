"""`piva-bench doctor` on this installation, and on broken ones."""

import importlib.util

from typer.testing import CliRunner

from piva_bench.cli import doctor
from piva_bench.cli.app import app
from piva_bench.errors import ModelError


def check():
    result = CliRunner().invoke(app, ["doctor"])
    return result.exit_code, result.output


def test_a_whole_installation():
    code, out = check()
    assert code == 0, out
    assert "all is well" in out
    assert "model: the embedded model is complete" in out
    assert "BROKEN" not in out
    for extra, (module, _) in doctor.EXTRAS.items():
        installed = importlib.util.find_spec(module) is not None
        assert f"extras: {extra} is {'installed' if installed else 'not installed'}" in out


def test_what_is_broken_is_said_and_the_rest_is_checked(monkeypatch):
    def missing(name):
        raise ModelError("No embedded model here:\n install it.")

    def torn():
        raise RuntimeError("torn\x1b")
        yield

    monkeypatch.setattr("piva_bench.profiles.resolve_model", missing)
    monkeypatch.setitem(doctor.CHECKS, "device", torn)
    code, out = check()
    assert code == 2
    assert "model: BROKEN: No embedded model here: install it." in out
    assert "device: BROKEN: RuntimeError: torn\\x1b" in out
    assert "2 of 7 checks found something broken" in out
    assert "disk: " in out
    assert "Traceback" not in out

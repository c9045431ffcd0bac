"""`piva-bench view3d`: it serves until Ctrl-C, and what goes wrong is one line."""

import importlib.util
import re
import socket
import sys
import urllib.request

import pytest

from piva_bench.cli import view3d
from piva_bench.cli.app import EXIT_USER_ERROR
from tests.distillation.scene_tasks import ball


@pytest.fixture
def fields(tmp_path):
    ball().save(tmp_path / "cup" / "field.safetensors")
    ball().save(tmp_path / "blue" / "field.safetensors")
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "cup" / "field.safetensors").read_bytes()[:500])
    return "cup/field.safetensors", "blue/field.safetensors"


def test_fields_are_offered_by_what_tells_them_apart(tmp_path):
    cup, blue = tmp_path / "cup" / "field.safetensors", tmp_path / "blue" / "field.safetensors"
    assert view3d.names_of([cup]) == {"field.safetensors": cup}
    assert view3d.names_of([cup, blue, cup]) == {"cup/field.safetensors": cup, "blue/field.safetensors": blue}


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@pytest.mark.skipif(
    importlib.util.find_spec("viser") is None,
    reason="the extra is not installed: pip install 'piva-bench[viewer]'",
)
def test_it_serves_until_it_is_interrupted(cli, fields, monkeypatch, capsys):
    visits = []

    def visit():
        line = capsys.readouterr().out
        with urllib.request.urlopen(re.match(r"http://\S+", line)[0], timeout=30) as answer:
            visits.append((line, answer.status))
        raise KeyboardInterrupt

    monkeypatch.setattr(view3d, "_wait", visit)
    code, _, err = cli("view3d", *fields, "--port", "0", "--device", "cpu")
    assert code == 0, err
    ((line, status),) = visits
    assert status == 200
    assert re.fullmatch(r"http://127.0.0.1:\d+ shows 2 fields, rendered on cpu; Ctrl-C ends it.\n", line)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("nowhere.safetensors",), "cannot read the radiance field nowhere.safetensors: "),
        (("torn.safetensors",), "cannot read the radiance field torn.safetensors: "),
        (("cup",), "cannot read the radiance field cup: "),
        (("cup/field.safetensors", "--device", "abacus"), "There is no device 'abacus' here"),
    ],
)
def test_mistakes_are_one_line(cli, fields, given, line):
    code, _, err = cli("view3d", *given)
    assert code == EXIT_USER_ERROR
    assert line in err
    assert len(err.strip().splitlines()) == 1


def test_without_viser_or_a_port_it_is_one_line(cli, fields, port, monkeypatch):
    code, _, err = cli("view3d", fields[0], "--port", port)
    assert code == EXIT_USER_ERROR
    assert re.fullmatch(r"error: (Port \d+ of 127.0.0.1 is in use: .*--port.*|.*\[viewer\].*)\n", err)
    monkeypatch.setitem(sys.modules, "viser", None)
    code, _, err = cli("view3d", fields[0])
    assert code == EXIT_USER_ERROR
    assert err == "error: The viewer needs viser: pip install 'piva-bench[viewer]'\n"

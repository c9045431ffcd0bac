import sys

import pytest

from piva_bench.errors import UnknownName, UserError
from piva_bench.registry import METHODS, Registry


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Installs a distribution that registers ``line`` in the group "things"."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution, *lines, module=""):
        folder = tmp_path / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("[things]\n" + "\n".join(lines) + "\n")
        (tmp_path / f"{distribution}_things.py").write_text(module)
        monkeypatch.delitem(sys.modules, f"{distribution}_things", raising=False)

    return install


def test_a_plugin_is_listed_without_being_imported(plugin):
    plugin("alpha", "good = alpha_things:Good", module="raise RuntimeError")
    registry = Registry("thing", "things")
    assert registry.names() == ["good"]
    assert registry.origin("good") == "alpha_things:Good (from alpha)"


def test_a_plugin_is_loaded(plugin):
    plugin("beta", "good = beta_things:Good", module="class Good:\n    card = 1\n")
    assert Registry("thing", "things", ("card",)).load("good").card == 1


def test_rivals_are_named_both(plugin):
    plugin("one", "same = one_things:A")
    plugin("two", "same = two_things:B")
    with pytest.raises(UserError, match=r"one_things:A \(from one\) and two_things:B \(from two\)|two.*one"):
        Registry("thing", "things").load("same")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("import no_such_module_xyz", "No module named 'no_such_module_xyz'"),
        ("", "has no attribute 'Good'"),
        ("raise RuntimeError('line one\\nline two')", "RuntimeError: line one line two"),
        ("class Good: pass", "is no thing: it has no card"),
    ],
)
def test_a_broken_plugin_is_one_line(plugin, module, message):
    plugin("gamma", "good = gamma_things:Good", module=module)
    with pytest.raises(UserError, match=message) as error:
        Registry("thing", "things", ("card",)).load("good")
    assert "\n" not in str(error.value)


def test_did_you_mean():
    with pytest.raises(UnknownName, match="Unknown method 'piva_analytical'. Did you mean piva_analytic"):
        METHODS.load("piva_analytical")
    with pytest.raises(UnknownName, match=r"Unknown method 'zzz'. Known: .*dds.* path/to/file.py:Name"):
        METHODS.load("zzz")


def test_all_own_methods_load():
    assert {"piva", "dds", "sds", "identity"} <= set(METHODS.names())
    for name in METHODS.names():
        assert METHODS.load(name).card.name == name


@pytest.mark.parametrize(
    ("content", "attribute", "message"),
    [
        (None, "X", "There is no file"),
        ("x = 1\nboom", "X", "cannot be imported: line 2, NameError: name 'boom' is not defined"),
        ("x = (", "X", "SyntaxError"),
        ("x = 1", "X", "defines no X"),
        ("class X: pass", "X", "is no method: it has no card"),
    ],
)
def test_a_method_in_a_file(tmp_path, content, attribute, message):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        METHODS.load(f"{path}:{attribute}")
    assert "\n" not in str(error.value)

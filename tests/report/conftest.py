import pytest

from tests.report.runs import make_run, make_samples

METHODS = {"piva": 20.0, "dds": 18.0, "identity": 50.0}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return make_samples(tmp_path_factory.mktemp("samples"), 8)


@pytest.fixture
def run(tmp_path, samples):
    return make_run(tmp_path / "run", samples, METHODS)

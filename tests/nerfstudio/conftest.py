"""One scene for all tests; nerfstudio is imported when it is asked for."""

import pytest


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """config.yml of a tiny nerfacto that has seen the ball."""
    from tests.nerfstudio.tiny_scene import train_nerfacto, write_ball

    root = tmp_path_factory.mktemp("scene")
    write_ball(root / "ball")
    return train_nerfacto(root / "ball", root / "outputs")


@pytest.fixture(scope="session")
def scene(trained):
    """That scene, opened."""
    from piva_bench.nerfstudio.scene import NerfstudioScene

    return NerfstudioScene.load(trained)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Folder of a tiny diffusion model."""
    from tests.tiny_sd import make_tiny_sd

    return make_tiny_sd(tmp_path_factory.mktemp("sd") / "model")

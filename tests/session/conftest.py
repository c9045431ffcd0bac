import piva_bench  # noqa: F401 - lets torchvision load, which diffusers needs, before anything imports diffusers
from tests.tiny_sd import denoiser, fixed_seed, tiny_sd

__all__ = ["denoiser", "fixed_seed", "tiny_sd"]

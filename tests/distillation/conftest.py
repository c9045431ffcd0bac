from tests.tiny_sd import denoiser, fixed_seed, tiny_sd

__all__ = ["denoiser", "fixed_seed", "tiny_sd"]

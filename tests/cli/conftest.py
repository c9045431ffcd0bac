"""Makes the tiny model's fixtures visible to these tests."""

from tests.tiny_sd import denoiser, tiny_sd

__all__ = ["denoiser", "tiny_sd"]

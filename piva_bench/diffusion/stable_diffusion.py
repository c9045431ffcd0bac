"""Stable Diffusion, which predicts noise or v, and InstructPix2Pix, which also sees the picture to edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from piva_bench.diffusion.autoencoder import Autoencoder
from piva_bench.diffusion.checkpoint import load_parts
from piva_bench.diffusion.condition import Condition
from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.schedule import Schedule


class StableDiffusion(Denoiser):
    """Stable Diffusion 1.x and 2.x.

    Args:
        unet: diffusers' UNet2DConditionModel, of [N, C, h, w], timesteps [N] and embeddings [N, L, D].
        vae: diffusers' AutoencoderKL.
        text_encoder: transformers' CLIPTextModel.
        tokenizer: its CLIPTokenizer.
        alphas_cumprod: abar_t [T] of the schedule.
        prediction_type: "epsilon" or "v_prediction".
        path: the folder it came from; identifies it.
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        alphas_cumprod: Tensor,
        prediction_type: str,
        path: Path,
    ) -> None:
        text_encoder.eval().requires_grad_(False)
        self.text_encoder, self.tokenizer, self.prediction_type = text_encoder, tokenizer, prediction_type
        resolution = int(unet.config.sample_size) * 2 ** (len(vae.config.block_out_channels) - 1)
        autoencoder = Autoencoder(vae, path.name, resolution)
        schedule = Schedule.variance_preserving(alphas_cumprod)
        super().__init__(unet, autoencoder, schedule, path, resolution)

    @classmethod
    def load(cls, path: Path, device: torch.device, dtype: torch.dtype) -> Self:
        """See ``Denoiser.load``."""
        return cls(**load_parts(path, device, dtype, sees_source=cls.sees_source), path=path)

    @property
    def unet(self) -> Any:
        """The network."""
        return self.network

    @property
    def vae(self) -> Any:
        """The autoencoder's network."""
        return self.autoencoder.vae

    @property
    def text_length(self) -> int:
        """Tokens of a prompt that are read, those of beginning and end included."""
        # Some tokenizers are saved without their length.
        length: int = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        return length

    def encode_text(self, prompt: str) -> Condition:
        """See ``Denoiser.encode_text``; embeddings [1, L, D], L being the tokenizer's length."""
        config = self.text_encoder.config
        tokens = self.tokenizer(
            prompt, padding="max_length", max_length=self.text_length, truncation=True, return_tensors="pt"
        ).to(self.device)
        mask = tokens.attention_mask if getattr(config, "use_attention_mask", False) else None
        return Condition(self.text_encoder(tokens.input_ids, attention_mask=mask)[0])

    def _forward(self, noisy: Tensor, t: Tensor, condition: Condition, extra: Mapping[str, Any]) -> Tensor:
        """The UNet's output; v is converted by eps = a_t v + s_t x_t."""
        output = self.network(
            self._input(noisy, condition).to(self.dtype),
            t,
            encoder_hidden_states=condition.text.to(self.dtype),
            **extra,
        ).sample.to(noisy.dtype)
        if self.prediction_type == "epsilon":
            return output
        alpha, sigma = self.schedule.alpha_sigma(t)
        return alpha * output + sigma * noisy

    def _input(self, noisy: Tensor, condition: Condition) -> Tensor:
        return noisy


class InstructPix2Pix(StableDiffusion):
    """InstructPix2Pix (arXiv 2211.09800): the UNet's second half of channels is the picture to edit.

    The picture's latents are unscaled there (diffusers' ``StableDiffusionInstructPix2PixPipeline``), and zeros
    stand for no picture.
    """

    sees_source: ClassVar[bool] = True

    def condition(self, prompts: Sequence[str], image: Tensor | None = None) -> Condition:
        """See ``Denoiser.condition``."""
        text = super().condition(prompts).text
        if image is None:
            # One latent of zeros a row, stretched over the picture where it is used.
            image = self.schedule.alpha.new_zeros(len(prompts), self.latent_channels, 1, 1)
        else:
            image = image / self.vae.config.scaling_factor
        return Condition(text, image=image)

    def _input(self, noisy: Tensor, condition: Condition) -> Tensor:
        assert condition.image is not None, "condition() gives one"
        return torch.cat([noisy, condition.image.expand_as(noisy)], dim=1)

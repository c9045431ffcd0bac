"""Rectified flows, Stable Diffusion 3 and FLUX, as noise predictors.

Their noisy latents are x_s = (1 - s) z + s n and they predict the velocity v = n - z, so n = x_s + (1 - s) v and
z = x_s - s v. Seen as a schedule with alpha = 1 - s and sigma = s they are asked, mixed and moved like any other model.
The networks, text encoders and their quirks are diffusers' own.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline
from torch import Tensor

from piva_bench.diffusion.autoencoder import Autoencoder
from piva_bench.diffusion.checkpoint import quiet, read
from piva_bench.diffusion.condition import Condition
from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.schedule import Schedule
from piva_bench.errors import ModelError

LENGTH = 1000
"""Timesteps of the schedule; s = t / 1000."""


class RectifiedFlow(Denoiser):
    """What both have in common.

    Args:
        pipeline: diffusers' own, loaded; what it is asked for is its text encoders' work.
        path: the folder it came from; identifies it.
    """

    pipeline_class: Any

    def __init__(self, pipeline: Any, path: Path) -> None:
        self.pipeline = pipeline
        for name, part in pipeline.components.items():
            if name.startswith("text_encoder") and part is not None:
                part.eval().requires_grad_(False)
        factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
        resolution = factor * self._latent_size(pipeline.transformer.config)
        autoencoder = Autoencoder(pipeline.vae, path.name, resolution)
        transformer = pipeline.transformer
        shift = getattr(pipeline.scheduler.config, "shift", None) or 1.0
        schedule = Schedule.rectified_flow(LENGTH, shift)
        super().__init__(transformer, autoencoder, schedule, path, resolution)

    @classmethod
    def load(cls, path: Path, device: torch.device, dtype: torch.dtype) -> Self:
        """See ``Denoiser.load``. Parts that the index says are not there (SD3 without T5) are left out."""
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        missing = [
            name
            for name, kind in index.items()
            if isinstance(kind, list) and kind[0] is not None and not (path / name).is_dir()
        ]
        if missing:
            raise ModelError(f"{path} lacks {', '.join(missing)}; fetch or save the model again.")

        absent = {name: None for name, kind in index.items() if isinstance(kind, list) and kind[0] is None}

        def open_folder() -> Any:
            with quiet():
                return cls.pipeline_class.from_pretrained(
                    path, torch_dtype=dtype, use_safetensors=True, local_files_only=True, **absent
                )

        return cls(read(path, open_folder).to(device), path)

    @staticmethod
    @abstractmethod
    def _latent_size(config: Any) -> int:
        """Side of the latents the model was trained on."""

    @abstractmethod
    def velocity(self, noisy: Tensor, s: Tensor, condition: Condition) -> Tensor:
        """V = n - z [N, C, h, w] at s [N] in [0, 1), in the network's precision."""

    def _forward(self, noisy: Tensor, t: Tensor, condition: Condition, extra: Mapping[str, Any]) -> Tensor:
        if extra:
            raise ModelError(f"{self.path.name} is a flow: it takes no depth ControlNet.")
        s = t.to(noisy.dtype) / LENGTH
        velocity = self.velocity(noisy, s, condition).to(noisy.dtype)
        return noisy + (1 - s).view(-1, 1, 1, 1) * velocity


class StableDiffusion3(RectifiedFlow):
    """Stable Diffusion 3 and 3.5."""

    pipeline_class = StableDiffusion3Pipeline

    @staticmethod
    def _latent_size(config: Any) -> int:
        return int(config.sample_size)

    def encode_text(self, prompt: str) -> Condition:
        """See ``Denoiser.encode_text``: two CLIPs and T5 side by side, as the pipeline lays them."""
        text, _, pooled, _ = self.pipeline.encode_prompt(
            prompt, prompt, prompt, device=self.device, do_classifier_free_guidance=False
        )
        return Condition(text, pooled)

    def velocity(self, noisy: Tensor, s: Tensor, condition: Condition) -> Tensor:
        """See ``RectifiedFlow.velocity``."""
        assert condition.pooled is not None
        return self.network(
            hidden_states=noisy.to(self.dtype),
            timestep=s * LENGTH,
            encoder_hidden_states=condition.text.to(self.dtype),
            pooled_projections=condition.pooled.to(self.dtype),
            return_dict=False,
        )[0]


class Flux(RectifiedFlow):
    """FLUX.1; of the guidance-distilled form (dev) guidance is an input instead of two predictions."""

    pipeline_class = FluxPipeline

    def __init__(self, pipeline: Any, path: Path) -> None:
        super().__init__(pipeline, path)
        self.distilled_guidance = bool(self.network.config.guidance_embeds)

    @staticmethod
    def _latent_size(config: Any) -> int:
        return 128  # its configuration does not say; FluxPipeline.default_sample_size

    def encode_text(self, prompt: str) -> Condition:
        """See ``Denoiser.encode_text``: T5's embeddings, CLIP's pooled one."""
        text, pooled, _ = self.pipeline.encode_prompt(prompt, prompt, device=self.device)
        return Condition(text, pooled)

    def velocity(self, noisy: Tensor, s: Tensor, condition: Condition) -> Tensor:
        """See ``RectifiedFlow.velocity``; latents are packed two by two, so their sides must be even."""
        assert condition.pooled is not None
        count, channels, height, width = noisy.shape
        if height % 2 or width % 2:
            raise ModelError(f"FLUX takes latents with even sides, not {height} x {width}.")
        packed = self.pipeline._pack_latents(noisy.to(self.dtype), count, channels, height, width)
        places = self.pipeline._prepare_latent_image_ids(
            count, height // 2, width // 2, self.device, self.dtype
        )
        words = torch.zeros(condition.text.shape[1], 3, device=self.device, dtype=self.dtype)
        scale = condition.scale
        if self.distilled_guidance and scale is None:
            scale = s.new_ones(count)
        output = self.network(
            hidden_states=packed,
            timestep=s.to(self.dtype),
            guidance=scale,
            encoder_hidden_states=condition.text.to(self.dtype),
            pooled_projections=condition.pooled.to(self.dtype),
            txt_ids=words,
            img_ids=places,
            return_dict=False,
        )[0]
        factor = self.pipeline.vae_scale_factor
        return self.pipeline._unpack_latents(output, height * factor, width * factor, factor)

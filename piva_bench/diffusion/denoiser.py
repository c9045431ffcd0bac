"""A latent diffusion model as the engine needs it: encode, decode, predict noise for many rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from piva_bench import heap
from piva_bench.diffusion.checkpoint import fingerprint, load_parts
from piva_bench.diffusion.controlnet import ControlRows, DepthControl
from piva_bench.diffusion.kept import KeptRows
from piva_bench.diffusion.lora import AttentionLora, LoraRows
from piva_bench.errors import ModelError

_PROMPTS_KEPT = 2048


class Denoiser:
    """A frozen Stable Diffusion model: UNet, autoencoder, text encoder and noise schedule.

    Latents, noise and predictions are float32 whatever precision the networks run in. Nothing is stored for
    gradients but through adapters: all own weights are frozen.

    Args:
        unet: diffusers' UNet2DConditionModel, of [N, C, h, w], timesteps [N] and embeddings [N, L, D].
        vae: diffusers' AutoencoderKL.
        text_encoder: transformers' CLIPTextModel.
        tokenizer: its CLIPTokenizer.
        alphas_cumprod: abar_t [T] of the schedule.
        prediction_type: "epsilon" or "v_prediction".
        path: the folder it came from; identifies it.

    Attributes:
        kept: where results that several edits share are kept, if they are; for this model alone.
        depth_control: the depth ControlNet beside the UNet, where one has been attached.
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
        self.unet, self.vae, self.text_encoder, self.tokenizer = unet, vae, text_encoder, tokenizer
        for network in (unet, vae, text_encoder):
            network.eval().requires_grad_(False)
        self.device: torch.device = unet.device
        if self.device.type == "cpu":
            heap.keep_freed_memory()
        self.dtype: torch.dtype = unet.dtype
        self.prediction_type, self.path = prediction_type, path
        abar = alphas_cumprod.double()
        self._alpha = abar.sqrt().float().to(self.device)
        self._sigma = (1 - abar).sqrt().float().to(self.device)
        self._factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self._embeddings: dict[str, Tensor] = {}
        self.lora = AttentionLora(unet)
        self.kept: KeptRows | None = None
        self.depth_control: DepthControl | None = None

    @classmethod
    def from_pretrained(
        cls, path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Denoiser:
        """Loads a Stable Diffusion folder in diffusers' layout, from disk, safetensors only.

        Raises:
            ModelError: one line that says what is missing, torn or unsuitable.
        """
        path = Path(path)
        return cls(**load_parts(path, torch.device(device), dtype), path=path)

    def tune(self, *, compile: bool = False, channels_last: bool = False) -> None:
        """Makes the UNet faster where the machine rewards it; the last digits of its predictions may change.

        Args:
            compile: compile its transformer blocks, which are alike and so are compiled once for each shape of
                the batch (diffusers' regional compilation).
            channels_last: lay pictures out with their channels innermost, as a GPU's convolutions like them.
        """
        if channels_last:
            self.unet.to(memory_format=torch.channels_last)
        if compile:
            self.unet.compile_repeated_blocks()

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the weights and configurations that were loaded."""
        return fingerprint(self.path)

    @property
    def resolution(self) -> int:
        """Side of the pictures the model was trained on, in pixels."""
        return int(self.unet.config.sample_size) * self._factor

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.unet.config.in_channels)

    @property
    def num_train_timesteps(self) -> int:
        """Length T of the schedule; timesteps are 0 to T - 1."""
        return len(self._alpha)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings [N, L, D] (L = the tokenizer's length, longer prompts are cut), kept for reuse.

        Each prompt is encoded alone, so an embedding does not depend on the others.
        """
        for prompt in prompts:
            if prompt not in self._embeddings:
                if len(self._embeddings) >= _PROMPTS_KEPT:
                    self._embeddings.pop(next(iter(self._embeddings)))
                self._embeddings[prompt] = self._encode_prompt(prompt)
        return torch.stack([self._embeddings[prompt] for prompt in prompts])

    # Not inference tensors, even if the caller is in that mode: adapters on keys and values need them for
    # gradients.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _encode_prompt(self, prompt: str) -> Tensor:
        config = self.text_encoder.config
        # Some tokenizers are saved without their length.
        length = min(self.tokenizer.model_max_length, config.max_position_embeddings)
        tokens = self.tokenizer(
            prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).to(self.device)
        mask = tokens.attention_mask if getattr(config, "use_attention_mask", False) else None
        return self.text_encoder(tokens.input_ids, attention_mask=mask)[0][0]

    def attach_depth_control(self, control: DepthControl) -> None:
        """Makes a depth ControlNet the one that adapters and rows with depth use.

        Raises:
            ModelError: it was made for another model.
        """
        control.check_fit(self)
        self.depth_control = control

    def need_depth_control(self) -> DepthControl:
        """The depth ControlNet.

        Raises:
            ModelError: none was attached.
        """
        if self.depth_control is None:
            raise ModelError(
                f"The model {self.path.name} has no depth ControlNet beside it: leave adapter=controlnet out."
            )
        return self.depth_control

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Scaled posterior means [N, C, h, w] of pictures [N, 3, H, W] in [-1, 1].

        One picture at a time: memory stays low, and a latent does not depend on the rest of the batch.

        Raises:
            ModelError: if the pictures are not RGB or their sides do not suit the networks.
        """
        self._check_pictures(images)
        images = images.to(self.device, self.dtype)
        latents = [self.vae.encode(image).latent_dist.mode().float() for image in images.split(1)]
        return torch.cat(latents) * self.vae.config.scaling_factor

    def encode(self, pictures: Tensor) -> Tensor:
        """The same of pictures that are being optimised: all in one pass, with gradients back to them.

        Raises:
            ModelError: see ``encode_images``.
        """
        self._check_pictures(pictures)
        latents = self.vae.encode(pictures.to(self.device, self.dtype)).latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor

    def _check_pictures(self, images: Tensor) -> None:
        suits = images.ndim == 4 and images.shape[1] == 3
        if not suits or images.shape[2] % self._factor or images.shape[3] % self._factor:
            raise ModelError(
                f"The model {self.path.name} takes RGB pictures whose sides are multiples of {self._factor}, "
                f"not {'x'.join(map(str, images.shape[1:]))}; it was trained at {self.resolution}."
            )

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pictures [N, 3, H, W], clamped to [-1, 1] (NaN stays), of latents [N, C, h, w]; one at a time."""
        latents = (latents / self.vae.config.scaling_factor).to(self.device, self.dtype)
        return torch.cat([self.vae.decode(z).sample.float() for z in latents.split(1)]).clamp(-1, 1)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a_t = sqrt(abar_t) and s_t = sqrt(1 - abar_t), each [N, 1, 1, 1], of timesteps [N]."""
        return self._alpha[t].view(-1, 1, 1, 1), self._sigma[t].view(-1, 1, 1, 1)

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = a_t z + s_t eps."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha * latents + sigma * noise

    def predict_noise(
        self,
        noisy: Tensor,
        t: Tensor,
        embeds: Tensor,
        lora: LoraRows | None = None,
        control: ControlRows | None = None,
    ) -> Tensor:
        """Noise predictions [N, C, h, w] in one forward pass; v is converted by eps = a_t v + s_t x_t.

        Args:
            noisy: [N, C, h, w].
            t: [N] integers.
            embeds: [N, L, D].
            lora: adapters of some of the rows.
            control: depth of some of the rows, and adapters of theirs on the depth ControlNet.
        """
        residuals = {} if control is None else self._residuals(noisy, t, embeds, control)
        with self.lora.active(lora):
            output = self.unet(
                noisy.to(self.dtype), t, encoder_hidden_states=embeds.to(self.dtype), **residuals
            ).sample.float()
        if self.prediction_type == "epsilon":
            return output
        alpha, sigma = self.alpha_sigma(t)
        return alpha * output + sigma * noisy

    def _residuals(self, noisy: Tensor, t: Tensor, embeds: Tensor, control: ControlRows) -> dict[str, Any]:
        """What the ControlNet adds to the UNet, as its arguments; nothing to rows that are not controlled."""
        stop = control.start + len(control.depth)
        part = slice(control.start, stop)
        down, middle = self.need_depth_control().residuals(noisy[part], t[part], embeds[part], control)

        def all_rows(residual: Tensor) -> Tensor:
            before = residual.new_zeros(control.start, *residual.shape[1:])
            after = residual.new_zeros(len(noisy) - stop, *residual.shape[1:])
            return torch.cat([before, residual, after]).to(self.dtype)

        return {
            "down_block_additional_residuals": tuple(all_rows(residual) for residual in down),
            "mid_block_additional_residual": all_rows(middle),
        }

"""Editing one picture at a time, written the way the official notebooks are; the engine's yardstick.

The structure is that of google/prompt-to-prompt's DDS notebook (one UNet call of four rows a step), and for Piva,
which has no official code, that of the 2D VSD scripts: peft adapters that are switched by name, a call for each
score, a training step for each adapter. The code is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor

from piva_bench.diffusion.denoiser import Denoiser
from piva_bench.diffusion.lora import TARGETS
from piva_bench.method import EditTask

GUIDANCE, SCALE = 7.5, 2000 / 4096


class Naive:
    """The loops, on a copy of a denoiser's UNet.

    Args:
        denoiser: where weights, autoencoder and text encoder come from.
        steps: steps of an edit.
        rank: of the adapters.
    """

    def __init__(self, denoiser: Denoiser, steps: int, rank: int = 4) -> None:
        self.model, self.steps, self.rank = denoiser, steps, rank
        self.unet = UNet2DConditionModel.from_config(denoiser.unet.config)
        self.unet.load_state_dict(denoiser.unet.state_dict())
        self.unet.to(denoiser.device, denoiser.dtype).eval().requires_grad_(False)
        self.scheduler = DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )

    def dds(self, tasks: Sequence[EditTask]) -> list[Tensor]:
        """DDS, picture after picture."""
        return [self._edit(task, 0.0) for task in tasks]

    def piva(self, tasks: Sequence[EditTask], weight: float = 0.4) -> list[Tensor]:
        """Piva, picture after picture."""
        return [self._edit(task, weight) for task in tasks]

    @torch.no_grad()
    def encode(self, task: EditTask) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents, and embeddings of the source, the target and the null prompt."""
        model = self.model
        image = task.source[None].to(model.device, model.dtype)
        z = model.vae.encode(image).latent_dist.mean * model.vae.config.scaling_factor
        texts = [task.source_prompt, task.target_prompt, ""]
        length = min(model.tokenizer.model_max_length, model.text_encoder.config.max_position_embeddings)
        tokens = model.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        source, target, null = model.text_encoder(tokens.input_ids.to(model.device))[0].split(1)
        return z.float(), source, target, null

    def predict(self, noisy: Tensor, t: Tensor, embeds: Tensor) -> Tensor:
        """A call of the UNet."""
        return self.unet(noisy.to(self.model.dtype), t, encoder_hidden_states=embeds).sample.float()

    def _edit(self, task: EditTask, weight: float) -> Tensor:
        z_src, source, target, null = self.encode(task)
        z = z_src.clone().requires_grad_()
        optimizer = torch.optim.SGD([z], lr=0.1)
        trainers = self._add_adapters() if weight else {}
        prompts = torch.cat([null, null, source, target])
        for _ in range(self.steps):
            t = torch.randint(50, 949, (1,), device=z.device)
            noise = torch.randn_like(z)
            with torch.no_grad():
                noisy_source = self.scheduler.add_noise(z_src, noise, t)
                noisy = self.scheduler.add_noise(z, noise, t)
                if weight:
                    self.unet.disable_adapters()
                four = torch.cat([noisy_source, noisy, noisy_source, noisy])
                null_src, null_tgt, cond_src, cond_tgt = self.predict(four, t.expand(4), prompts).chunk(4)
                grad = (
                    null_tgt + GUIDANCE * (cond_tgt - null_tgt) - null_src - GUIDANCE * (cond_src - null_src)
                )
                if weight:
                    self.unet.enable_adapters()
                    self.unet.set_adapter("psi")
                    psi = self.predict(noisy, t, source)
                    self.unet.set_adapter("phi")
                    grad = grad + weight * (psi - self.predict(noisy, t, target))
            optimizer.zero_grad()
            (SCALE * (z * grad).sum()).backward()
            optimizer.step()
            for name, latents, prompt in (("psi", z_src, source), ("phi", z.detach(), target)):
                if weight:
                    self._train(name, trainers[name], latents, null if torch.rand(()) < 0.1 else prompt)
        if weight:
            self.unet.delete_adapters(["psi", "phi"])
        with torch.no_grad():
            latents = (z / self.model.vae.config.scaling_factor).to(self.model.dtype)
            return self.model.vae.decode(latents).sample.float().clamp(-1, 1)[0].cpu()

    def _add_adapters(self) -> dict[str, torch.optim.Optimizer]:
        config = LoraConfig(r=self.rank, lora_alpha=self.rank, target_modules=list(TARGETS))
        optimizers = {}
        for name in ("psi", "phi"):
            self.unet.add_adapter(config, adapter_name=name)
            parameters = [weight for key, weight in self.unet.named_parameters() if f".{name}." in key]
            for parameter in parameters:
                parameter.data = parameter.data.float()
            optimizers[name] = torch.optim.AdamW(parameters, lr=3e-4)
        return optimizers

    def _train(self, name: str, optimizer: torch.optim.Optimizer, latents: Tensor, prompt: Tensor) -> None:
        self.unet.set_adapter(name)
        t = torch.randint(0, 1000, (1,), device=latents.device)
        noise = torch.randn_like(latents)
        noisy = self.scheduler.add_noise(latents, noise, t)
        loss = torch.nn.functional.mse_loss(self.predict(noisy, t, prompt), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

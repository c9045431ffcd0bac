"""A latent diffusion or flow model as methods need it: encode, decode, predict noise for many rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from piva_bench import heap
from piva_bench.diffusion.autoencoder import Autoencoder, latents_dtype
from piva_bench.diffusion.condition import Condition
from piva_bench.diffusion.effects import RowEffect
from piva_bench.diffusion.fingerprints import fingerprint
from piva_bench.diffusion.kept import KeptRows
from piva_bench.diffusion.lora import LayerLora, Layers
from piva_bench.diffusion.schedule import Schedule
from piva_bench.errors import ModelError

if TYPE_CHECKING:
    from piva_bench.diffusion.controlnet import DepthControl

_PROMPTS_KEPT = 2048


class Denoiser(ABC):
    """A frozen model; ``from_pretrained`` finds the class for a folder.

    Latents, noise and predictions are float32 in whatever lower precision the networks run (float64 if they run in
    that), and predictions are always those of the noise: v and velocity are converted. Nothing is stored for
    gradients but where a query asks for them: all own weights are frozen.

    Args:
        network: what predicts: a UNet or a transformer of diffusers.
        autoencoder: pictures to latents.
        schedule: of the noise.
        path: the folder it came from; identifies it.
        resolution: side of the pictures the model was trained on, in pixels.

    Attributes:
        kept: where results that several edits share are kept, if they are; for this model alone.
        depth_control: the depth ControlNet beside the model, where one has been attached.
        beside: further models by the name that queries call them (``Query.model``).
        distilled_guidance: whether guidance is an input of the network, not a difference of two predictions.
        sees_source: whether each prediction is also given the source picture (InstructPix2Pix).
        conditions: embeddings of the prompts that were last encoded.
        section: entered by name around "model" (a prediction) and "adapters" (their training); does nothing until
            somebody who measures puts their own there.
    """

    distilled_guidance: bool = False
    sees_source: ClassVar[bool] = False

    def __init__(
        self, network: Any, autoencoder: Autoencoder, schedule: Schedule, path: Path, resolution: int
    ) -> None:
        self.network, self.autoencoder = network, autoencoder
        for net in (network, autoencoder.vae):
            net.eval().requires_grad_(False)
        self.device: torch.device = network.device
        if self.device.type == "cpu":
            heap.keep_freed_memory()
        self.dtype: torch.dtype = network.dtype
        self.schedule = schedule.to(self.device, latents_dtype(self.dtype))
        self.path, self.resolution = path, resolution
        self._loras: dict[Layers, LayerLora] = {}
        self.lora()  # its hooks are there before anything is compiled
        self.kept: KeptRows | None = None
        self.depth_control: DepthControl | None = None
        self.beside: dict[str, Denoiser] = {}
        self.section: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext()
        self.conditions: dict[str, Condition] = {}

    @classmethod
    @abstractmethod
    def load(cls, path: Path, device: torch.device, dtype: torch.dtype) -> Denoiser:
        """Loads a folder that is known to be of this class; see ``load_denoiser``."""

    def lora(self, which: Layers = "attention") -> LayerLora:
        """Adapters for rows of a batch, on the network's attention alone or on more of its layers."""
        if which not in self._loras:
            self._loras[which] = LayerLora(self.network, which)
        return self._loras[which]

    def tune(self, *, compile: bool = False, channels_last: bool = False) -> None:
        """Makes the network faster where the machine rewards it; the last digits of its predictions may change.

        Args:
            compile: compile its transformer blocks, which are alike and so are compiled once for each shape of
                the batch (diffusers' regional compilation).
            channels_last: lay pictures out with their channels innermost, as a GPU's convolutions like them.
        """
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        if compile:
            self.network.compile_repeated_blocks()

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the weights and configurations that were loaded."""
        return fingerprint(self.path)

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.autoencoder.channels

    @property
    def latent_factor(self) -> int:
        """Pixels per latent along an edge."""
        return self.autoencoder.factor

    def condition(self, prompts: Sequence[str], image: Tensor | None = None) -> Condition:
        """The conditions of N rows; texts are kept for reuse.

        Each prompt is encoded alone, so its embedding does not depend on the others. Prompts longer than the
        tokenizer's length are cut.

        Args:
            prompts: one a row.
            image: latents [N, C, h, w] of the picture to edit, for models that see it; None shows them none.
        """
        for prompt in prompts:
            if prompt not in self.conditions:
                if len(self.conditions) >= _PROMPTS_KEPT:
                    self.conditions.pop(next(iter(self.conditions)))
                self.conditions[prompt] = self._encode_prompt(prompt)
        return Condition.cat([self.conditions[prompt] for prompt in prompts])

    # Not inference tensors, even if the caller is in that mode: adapters on keys and values need them for
    # gradients.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _encode_prompt(self, prompt: str) -> Condition:
        return self.encode_text(prompt)

    @abstractmethod
    def encode_text(self, prompt: str) -> Condition:
        """The condition (N = 1) of one prompt."""

    def put_beside(self, name: str, other: Denoiser) -> None:
        """Makes another model one that queries can ask, on this model's latents and timesteps.

        Raises:
            ModelError: its latents or its schedule are not this model's.
        """
        same_latents = self.autoencoder.space == other.autoencoder.space
        ours, theirs = self.schedule.alpha, other.schedule.alpha
        if (
            not same_latents
            or len(ours) != len(theirs)
            or not torch.allclose(ours, theirs.to(ours), atol=1e-4)
        ):
            raise ModelError(
                f"The model {other.path.name} ({name}) has not the {'schedule' if same_latents else 'latents'} of "
                f"{self.path.name}, beside which a method asks it: give --model one of its kind."
            )
        self.beside[name] = other

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

    def encode_images(self, images: Tensor) -> Tensor:
        """See ``Autoencoder.encode_images``."""
        return self.autoencoder.encode_images(images)

    def encode(self, pictures: Tensor) -> Tensor:
        """See ``Autoencoder.encode``."""
        return self.autoencoder.encode(pictures)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """See ``Autoencoder.decode``."""
        return self.autoencoder.decode(latents)

    def predict_noise(
        self, noisy: Tensor, t: Tensor, condition: Condition, effects: Sequence[RowEffect] = ()
    ) -> Tensor:
        """Noise predictions [N, C, h, w] in one forward pass.

        Args:
            noisy: [N, C, h, w].
            t: [N] integers.
            condition: N rows.
            effects: what else is true of some of the rows in this call: adapters, depth, touches.
        """
        with self.section("model"), ExitStack() as stack:
            extra: dict[str, Any] = {}
            for effect in effects:
                extra |= stack.enter_context(effect.on(self, noisy, t, condition))
            return self._forward(noisy, t, condition, extra)

    @abstractmethod
    def _forward(self, noisy: Tensor, t: Tensor, condition: Condition, extra: Mapping[str, Any]) -> Tensor:
        """The network's prediction of the noise, in the latents' precision; ``extra`` are arguments of effects."""

"""Profiles: a backbone, a resolution, a metric protocol and the method defaults that go with them.

A profile is always explicit. It is printed, stored in every record and part of every content key; tables
never mix profiles, and nothing falls back from one to the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from piva_bench import paths
from piva_bench.errors import ModelError, UnknownName

EMBEDDED_MODEL = "studio-sd"
EMBEDDED_INSTRUCTIONS = "studio-ip2p"
INSTRUCTIONS = "instruct-pix2pix"
"""The alias by which methods name a model that takes an instruction."""


class Profile(BaseModel):
    """What a run stands on besides its method and dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    model: str = Field(description="model alias or path of a diffusers folder")
    resolution: int = Field(gt=0, description="side of the square pictures, in pixels")
    protocol: str = Field(description="metric protocol that `run` scores with")
    method_defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="replaces defaults of the recipes that methods share (not what a method declares itself); "
        "parameters given by the user win",
    )

    scene_protocol: str = Field(default="views-v1", description="metric protocol for 3D datasets")
    scene_defaults: dict[str, Any] = Field(
        default_factory=dict, description="as method_defaults, and before them, for 3D datasets"
    )
    depth_control: str = Field(
        default="studio-depth", description="depth ControlNet beside the model, for adapter=controlnet"
    )
    stand_ins: dict[str, str] = Field(
        default_factory=dict, description="what takes the place of a published model that a method names"
    )

    def model_beside(self, name: str) -> Path:
        """The folder of a model that a method's card names; see `resolve_model`."""
        return resolve_model(self.stand_ins.get(name, name))

    def for_kind(self, kind: str) -> Profile:
        """The profile with the protocol that a kind is scored by, and the defaults it is edited with."""
        if kind != "scenes":
            return self
        return self.model_copy(
            update={
                "protocol": self.scene_protocol,
                "method_defaults": self.method_defaults | self.scene_defaults,
            }
        )


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="embedded",
            title="the studio world: shipped with the package, runs offline on a laptop's CPU",
            model=EMBEDDED_MODEL,
            resolution=64,
            protocol="studio-v1",
            # The official recipes are for 64x64 latents of Stable Diffusion. On a data set of another seed
            # (`studio pie --new-seed`), with DDS: at guidance 5 edits hold after 50 steps, at the official 7.5 the
            # set drifts (PSNR outside the mask 27 instead of 29 dB), and more steps overshoot.
            method_defaults={"steps": 50, "guidance_scale": 5.0, "lora_learning_rate": 1e-3},
            # On a 3D set of another seed (`studio objaverse --new-seed`), with DDS: at half the field's learning rate
            # and three times the price of growing no hat grows in 100 steps; without the weight on rough colours
            # materials come out as coloured noise, at five times that weight they lose their shading.
            scene_defaults={
                "steps": 100,
                "field_learning_rate": 0.1,
                "field_room": 8,
                "outside": 3e3,
                "colour_variation": 1e3,
            },
            depth_control="studio-depth",
            stand_ins={INSTRUCTIONS: EMBEDDED_INSTRUCTIONS},
        ),
        Profile(
            name="paper",
            title="Stable Diffusion at 512 pixels and PIE-Bench's own protocol: needs weights and a GPU",
            model="sd-1.5",
            resolution=512,
            protocol="pnp-v1",
            scene_protocol="views-clean",
            depth_control="sd-1.5-depth",
        ),
    )
}


def get_profile(name: str) -> Profile:
    """The profile of this name; ``UnknownName`` otherwise."""
    if name not in PROFILES:
        raise UnknownName("profile", name, PROFILES)
    return PROFILES[name]


def resolve_model(model: str) -> Path:
    """The folder or single file behind a model alias or path.

    Raises:
        ModelError: nothing is there. Nothing is ever downloaded or replaced silently.
    """
    from piva_bench.diffusion.aliases import ALIASES, locate

    if model in ALIASES:
        return locate(ALIASES[model])
    embedded = {EMBEDDED_MODEL: paths.embedded_model_dir, EMBEDDED_INSTRUCTIONS: paths.studio_ip2p_dir}
    path = embedded[model]() if model in embedded else Path(model).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == ".safetensors"):
        return path
    if model == EMBEDDED_MODEL:
        raise ModelError(f"No embedded model at {path}: install piva-bench from a full checkout.")
    if model == EMBEDDED_INSTRUCTIONS:
        raise ModelError(
            f"No embedded InstructPix2Pix at {path}: `piva-bench studio pairs`, then `piva-bench studio train ip2p "
            "--minutes 120` make one."
        )
    if path.is_file():
        raise ModelError(f"'{model}' is no .safetensors file; other formats are not read, convert it first.")
    raise ModelError(
        f"No model at '{model}': give --model the path of a diffusers folder or a .safetensors file, "
        f"or one of {', '.join((*embedded, *ALIASES))}."
    )

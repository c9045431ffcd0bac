"""One scene of one's own: its field, one edit, what is saved of it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from piva_bench.distillation.method import DistillationMethod
from piva_bench.errors import DataError, UserError
from piva_bench.files import write_atomic
from piva_bench.key import content_key
from piva_bench.method import EditMethod, OnStep, SceneTask
from piva_bench.runs.inside import remove_file
from piva_bench.runs.single import edit_failed
from piva_bench.runs.unfinished import Unfinished
from piva_bench.runs.views import encode_field, encode_views
from piva_bench.scene.animation import write_turntable
from piva_bench.scene.field import RadianceField
from piva_bench.scene.kept_fields import fitted_field
from piva_bench.scene.params import FieldEditParams

if TYPE_CHECKING:
    from piva_bench.diffusion.denoiser import Denoiser
    from piva_bench.scene.sources import OwnScene
    from piva_bench.scene.views import PosedViews

STATE = "unfinished.safetensors"
"""The state of an edit on its way, in the folder that its results go to."""


@dataclass(frozen=True)
class SceneEdit:
    """A finished edit of a scene.

    Attributes:
        source: views of the source from the turntable.
        edited: the same of the edit.
        field: the edited field.
        seconds: of the edit.
        source_field: the field it started from.
        model: the file of the 3D model that was photographed for it.
    """

    source: PosedViews
    edited: PosedViews
    field: RadianceField
    seconds: float
    source_field: RadianceField
    model: Path | None = None

    def model_glb(self) -> bytes | None:
        """The 3D model's file with the changed parts replaced; None of a capture.

        Raises:
            DataError: see ``compose``.
        """
        from piva_bench.scene.compose import compose

        return None if self.model is None else compose(self.model, self.source_field, self.field)[0]

    def save(
        self, folder: Path, background: tuple[float, float, float], warn: Callable[[str], None]
    ) -> list[Path]:
        """Writes ``turntable.gif``, ``views.png``, ``depth.png``, ``normals.png``, ``field.safetensors`` and, of what
        has a surface, ``mesh.glb`` and ``mesh.ply``, of a 3D model also ``model.glb``; their paths. The state of the
        unfinished edit is taken away.

        Args:
            folder: where they go.
            background: of the turntable.
            warn: told why there is no ``model.glb`` of a model.

        Raises:
            UserError: the folder cannot be written to.
        """
        views, depth = encode_views(self.edited)
        files = {"views.png": views, "depth.png": depth, "field.safetensors": self.field.to_bytes()}
        files |= encode_field(self.field, self.edited.cameras)
        try:
            if (model := self.model_glb()) is not None:
                files["model.glb"] = model
        except DataError as error:
            warn(f"no model.glb is written: {error}")
        try:
            for name, content in files.items():
                write_atomic(folder / name, content)
            columns = {
                name: shown.composite(background)
                for name, shown in (("source", self.source), ("edit", self.edited))
            }
            turntable = write_turntable(folder / "turntable.gif", columns)
        except OSError as error:
            raise UserError(f"Cannot write to {folder}: {error.strerror or error}.") from error
        remove_file(folder / STATE)
        return [turntable, *(folder / name for name in files)]


def edit_scene(
    scene: OwnScene,
    method: EditMethod,
    params: FieldEditParams,
    denoiser: Denoiser,
    source_prompt: str,
    target_prompt: str,
    *,
    seed: int = 0,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    side_words: Mapping[str, str] | None = None,
    instruction: str = "",
    folder: Path | None = None,
    on_fit: Callable[[int, float], None] | None = None,
    on_step: OnStep | None = None,
) -> SceneEdit:
    """Fits a scene's field, unless that was done before, and edits it.

    Args:
        scene: what to edit.
        method: with its parameters.
        params: of the field.
        denoiser: the model.
        source_prompt: what the scene shows.
        target_prompt: what it shall show.
        seed: of all noise.
        background: what the scene stands before; of opaque views the one they have.
        side_words: what is appended to the prompts by side, where the scene has a front.
        instruction: the edit as an order, for methods that read one.
        folder: where the state of a rule's edit is kept on the way, and found after a kill.
        on_fit: told of every step of the fit.
        on_step: told of every step of the edit.

    Raises:
        UserError: method, scene and options do not fit together, or the edit failed.
    """
    colour = torch.tensor(background).view(1, 3, 1, 1).expand(len(scene.views), -1, -1, -1)
    digest = hashlib.blake2b(scene.views.images.tobytes(), digest_size=16)
    digest.update(scene.views.cameras.camera_to_world.tobytes() + scene.views.cameras.intrinsics.tobytes())
    digest.update(repr(background if scene.views.opaque else None).encode())
    field = fitted_field(
        digest.hexdigest(),
        scene.views,
        scene.box,
        params,
        denoiser.device,
        background=background if scene.views.opaque else None,
        on_step=on_fit,
    )
    words = (side_words or {}) if scene.sided else {}
    task = SceneTask(
        "scene",
        field,
        scene.views.cameras,
        colour,
        scene.turntable,
        source_prompt,
        target_prompt,
        params,
        {side: (source_prompt + more, target_prompt + more) for side, more in words.items()},
        instruction=instruction,
    )
    more: dict[str, Any] = {}
    if folder is not None and isinstance(method, DistillationMethod):
        identity = content_key(
            {
                "scene": digest.hexdigest(),
                "background": list(background),
                "turntable": hashlib.blake2b(scene.turntable.camera_to_world.tobytes()).hexdigest(),
                "method": [method.card.name, method.card.version, _code(type(method))],
                "params": [method.params.model_dump(), params.model_dump(), dict(params.stamp)],
                "prompts": [source_prompt, target_prompt, dict(words)],
                "model": [denoiser.fingerprint, str(denoiser.dtype)],
                "seed": seed,
            }
        )
        more["unfinished"] = Unfinished(folder, STATE, identity)
    (outcome,) = method.edit_scenes([task], denoiser, seed, on_step, **more)
    seconds = outcome.seconds + (more["unfinished"].earlier if more else 0.0)
    if outcome.views is None or outcome.field is None:
        raise edit_failed(outcome)
    source = field.render_views(scene.turntable)
    return SceneEdit(source, outcome.views, outcome.field, seconds, field, scene.model)


def _code(cls: type) -> str:
    """A method's own text, where it can be had: of one that is just being written the version says nothing."""
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return ""

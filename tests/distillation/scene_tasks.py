"""Small scenes to edit: coloured balls, seen in 32 px views."""

import numpy as np
import torch

from piva_bench.method import SceneTask
from piva_bench.scene.cameras import RIG
from piva_bench.scene.field import Grid, RadianceField
from piva_bench.scene.params import FieldEditParams

BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def ball(resolution=12, radius=0.7, colour=(0.8, 0.3, 0.2)):
    """An opaque ball of one colour; beyond it the field is closed."""
    field = RadianceField(Grid(BOX, resolution))
    with torch.no_grad():
        inside = field.nodes().norm(dim=-1) < radius
        field.raw[0, 0] = torch.where(inside, 4.0, -8.0)
        field.raw[0, 1:] = torch.tensor(colour).logit().view(3, 1, 1, 1)
    field.prune(dilate=1)
    return field


def make_scene_tasks(count, *, cameras=6, size=32, **params):
    """Edits of balls of different colours, with prompts of their own; each is seen on white."""
    words = ["cup", "boat", "lamp"]
    return [
        SceneTask(
            f"scene-{i}",
            ball(colour=tuple(np.roll([0.8, 0.3, 0.2], i))),
            RIG.turntable(cameras, size),
            torch.ones(1, 3, 1, 1).expand(cameras, -1, -1, -1),
            RIG.turntable(4, 16),
            source_prompt=f"a red {words[i]}",
            target_prompt=f"a blue {words[i]}",
            params=FieldEditParams(**params),
            side_prompts={"back": (f"a red {words[i]} from behind", f"a blue {words[i]} from behind")},
        )
        for i in range(count)
    ]

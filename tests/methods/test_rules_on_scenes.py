"""Every rule that says it edits scenes does: through two views a step, alone as in a batch."""

import pytest
import torch

from piva_bench.registry import METHODS
from tests.distillation.scene_tasks import make_scene_tasks

RULES = [name for name in METHODS.names() if METHODS.load(name).card.kind == "distillation"]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_moves_a_scene(denoiser, name):
    cls = METHODS.load(name)
    assert "scenes" in cls.kinds
    tasks = make_scene_tasks(2, field_room=1)
    # Two of the walk's steps, or of any other rule's.
    rule = cls(cls.Params(steps=2))
    together = rule.edit_scenes(tasks, denoiser, 0)
    (alone,) = rule.edit_scenes(tasks[1:], denoiser, 0)
    for task, outcome in zip(tasks, together, strict=True):
        assert outcome.reason is None
        assert max(outcome.trace["loss"]) > 1e-4
        assert (outcome.field.raw - task.field.raw).abs().max() > 1e-3
        # Two views cost what two pictures do.
        assert outcome.unet_evaluations % 4 == 0
    torch.testing.assert_close(together[1].field.raw, alone.field.raw, atol=2e-2, rtol=0)
    assert together[1].unet_evaluations == alone.unet_evaluations

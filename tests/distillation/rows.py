"""Rows of a step, made by hand: what a parameterization would show."""

from dataclasses import dataclass

from piva_bench.distillation.parameterization import Observation, Rows, view_names


@dataclass
class Shown:
    """A parameterization of which only the shape is asked."""

    sample_ids: tuple
    views: int = 1
    still: bool = True


def shown(tasks, views=1):
    """The shape of an edit of these tasks."""
    return Shown(tuple(task.sample_id for task in tasks), views, views == 1)


def rows_of(denoiser, tasks, source, edit, views=1, seed=0):
    """Rows of these latents [tasks * views, C, h, w]; row names as pictures and scenes have them."""
    ids = [task.sample_id for task in tasks]
    names = ids if views == 1 else [name for one in ids for name in view_names(one, range(views))]
    source_prompts = tuple(task.source_prompt for task in tasks for _ in range(views))
    target_prompts = tuple(task.target_prompt for task in tasks for _ in range(views))
    return Rows.of(Observation(edit, source, tuple(names), source_prompts, target_prompts), denoiser, seed)

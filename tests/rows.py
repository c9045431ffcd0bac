"""Rows of a step, made by hand: what a parameterization would show."""

from dataclasses import dataclass

import torch

from piva_bench.session.rows import Observation, Rows, view_names
from piva_bench.session.step import Step
from tests.tiny_sd import make_tasks


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


class Answers:
    """Stands where a predictor stands: gives the answers it was made with and keeps what it was asked."""

    def __init__(self, answers):
        self.answers, self.asked = answers, {}

    def __call__(self, queries, rows, touch=None):
        self.asked |= queries
        return {name: self.answers[name] for name in queries}


def step_of(denoiser, answers, *, samples=2, index=0):
    """A step on random latents whose predictions are those of ``answers``, and who was asked."""
    torch.manual_seed(index)
    tasks, (z, z_src) = make_tasks(samples), torch.randn(2, samples, 4, 8, 8)
    predictor = Answers(answers)
    return Step(rows_of(denoiser, tasks, z_src, z), predictor, index, range(1, 1000)), predictor


def random_answers(names, samples=2):
    """Random predictions by name."""
    torch.manual_seed(9)
    return {name: torch.randn(samples, 4, 8, 8) for name in names}

"""The tables of ``piva-bench profile`` as CSV, Markdown, and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from piva_bench.runs.costs import EditCost
    from piva_bench.runs.profile import Cost

NOTE = (
    "Per step of one edit; peak MB is of the whole batch (on a CPU: of the process). The floor is the step's "
    "FLOPs at the speed of a large matrix product; harness is all that is none of the parts."
)
SCENE_PARTS = ("render", "encoder")


def profile_frame(costs: Sequence[Cost]) -> pd.DataFrame:
    """The costs as numbers, for CSV."""
    rows = [
        {
            "method": cost.method,
            "batch_size": cost.batch_size,
            "unet_rows": cost.rows,
            "training_rows": cost.training_rows,
            "forward_gflops": cost.forward_flops / 1e9,
            "backward_gflops": cost.backward_flops / 1e9,
            "ms": cost.seconds * 1e3,
            "model_ms": cost.model_seconds * 1e3,
            "adapters_ms": cost.adapter_seconds * 1e3,
            "render_ms": cost.render_seconds * 1e3,
            "encoder_ms": cost.encoder_seconds * 1e3,
            "harness_ms": cost.harness_seconds * 1e3,
            "harness_percent": 100 * cost.harness_seconds / cost.seconds,
            "floor_ms": cost.floor_seconds * 1e3,
            "floor_percent": 100 * cost.floor_seconds / cost.seconds,
            "peak_memory_mb": cost.peak_memory_mb,
            **{f"{part}_peak_mb": megabytes for part, megabytes in cost.part_memory_mb.items()},
        }
        for cost in costs
    ]
    return pd.DataFrame(rows)


def profile_markdown(costs: Sequence[Cost], head: str) -> str:
    """A GitHub-flavoured table; of scenes with the parts that render and encode, and the memory of each part."""
    parts = ["model", "adapters", *(SCENE_PARTS if any(cost.render_seconds for cost in costs) else ())]
    heads = ["Method", "Batch", "UNet rows (trained)", "GFLOP fwd", "GFLOP bwd", "ms", *parts, "harness",
             "floor ms", "% of floor", f"Peak MB ({', '.join(parts)})"]  # fmt: skip
    lines = ["### Cost of a step", "", f"{head}  ", NOTE, "", "| " + " | ".join(heads) + " |"]
    lines.append("|---|" + "---:|" * (len(heads) - 1))
    for row in profile_frame(costs).to_dict("records"):
        held = ", ".join(
            f"{megabytes:.0f}" if (megabytes := row.get(f"{part}_peak_mb", 0)) > 0 else "–" for part in parts
        )
        cells = [
            row["method"], f"{row['batch_size']}", f"{row['unet_rows']:.0f} ({row['training_rows']:.0f})",
            f"{row['forward_gflops']:.2f}", f"{row['backward_gflops']:.2f}", f"{row['ms']:.2f}",
            *(f"{row[part + '_ms']:.2f}" for part in parts),
            f"{row['harness_ms']:.2f} ({row['harness_percent']:.1f} %)", f"{row['floor_ms']:.2f}",
            f"{row['floor_percent']:.0f}", f"{row['peak_memory_mb']:.0f} ({held})",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


COUNTED = (
    "Counted for one edit of one picture, encoding and decoding included: the same on every machine. Rows in brackets "
    "are computed backward, too; peak MB is of all tensors beside the model's weights."
)


def costs_frame(costs: Sequence[EditCost]) -> pd.DataFrame:
    """What edits cost as numbers, for CSV."""
    return pd.DataFrame(
        [
            {
                "method": cost.method,
                "steps": cost.steps,
                "unet_rows": cost.rows,
                "training_rows": cost.training_rows,
                "forward_gflops": cost.forward_flops / 1e9,
                "backward_gflops": cost.backward_flops / 1e9,
                "peak_memory_mb": cost.peak_bytes / 1e6,
            }
            for cost in costs
        ]
    )


def costs_markdown(costs: Sequence[EditCost], head: str) -> str:
    """A GitHub-flavoured table."""
    lines = ["### Cost of an edit", "", f"{head}  ", COUNTED, ""]
    lines += [
        "| Method | Steps | UNet rows | GFLOP forward | GFLOP backward | Peak MB |",
        "|---|" + "---:|" * 5,
    ]
    for cost in costs:
        trained = f" ({cost.training_rows})" if cost.training_rows else ""
        cells = [
            f"`{cost.method}`", "" if cost.steps is None else f"{cost.steps}", f"{cost.rows}{trained}",
            f"{cost.forward_flops / 1e9:.1f}", f"{cost.backward_flops / 1e9:.1f}", f"{cost.peak_bytes / 1e6:.1f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"

"""The profile's table as CSV, Markdown, and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
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

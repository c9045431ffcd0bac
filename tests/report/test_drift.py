"""Drift and adapters: curves over numbers of steps, and what traces say of adapters, against plain arithmetic."""

import numpy as np
import pandas as pd
import pytest

from piva_bench.report.curves import to_png
from piva_bench.report.diagnoses import diagnoses, diagnoses_markdown, per_edit
from piva_bench.report.drift import courses, drift, drift_frame, drift_markdown, drift_metrics


def results():
    rng = np.random.default_rng(0)
    rows = []
    for method, numbers in (("dds", (10, 50, 200)), ("sds", (10, 50))):
        for steps in numbers:
            for sample in range(6):
                if (steps, sample) == (200, 5):
                    continue  # a sample that is not at every number of steps
                rows.append(
                    {
                        "status": "ok", "section": "method", "method": method, "sample_id": f"s{sample}", "seed": 0,
                        "variant": f"{method} (steps={steps})", "params": f"guidance_scale=5.0, steps={steps}, w=50",
                        "protocol": "studio-v1", "psnr": steps / 10 + rng.normal(), "stlpips": 0.1 * rng.random(),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_a_course_is_of_the_samples_that_are_there_at_every_number_of_steps():
    frame = results()
    (course,) = courses(frame)  # two numbers of steps make no curve
    assert (course.label, course.steps) == ("dds", (10, 50, 200))
    name = drift_metrics(frame)[0].name
    for place, steps in enumerate(course.steps):
        part = frame[(frame["variant"] == f"dds (steps={steps})") & (frame["sample_id"] != "s5")]
        assert course.values[name][place].mean == pytest.approx(part[name].mean())
        assert course.values[name][place].n == 5


def test_settings_that_differ_in_more_than_steps_are_curves_of_their_own():
    frame = results()
    other = frame[frame["method"] == "dds"].copy()
    other["params"] = other["params"].str.replace("guidance_scale=5.0", "guidance_scale=2.0")
    other["variant"] = other["variant"].str.replace("(", "(guidance_scale=2.0, ", regex=False)
    found = courses(pd.concat([frame, other], ignore_index=True))
    assert sorted(one.label for one in found) == ["dds", "dds (guidance_scale=2.0)"]


def test_figure_and_tables_show_every_number_of_steps():
    found, metrics = courses(results()), drift_metrics(results())
    assert to_png(drift(found, metrics, ["head"]))[:4] == b"\x89PNG"
    text = drift_markdown(found, metrics)
    assert [f"| dds | {steps} |" in text for steps in (10, 50, 200)] == [True] * 3
    assert len(drift_frame(found)) == 3 * len(metrics)


def test_a_gain_is_one_minus_the_quotient_of_sums_over_the_measured_steps():
    nan = np.nan
    scalars = {
        "psi_loss": np.array([[nan, 0.02, nan, 0.04], [nan, 0.1, nan, 0.1]]),
        "psi_prior_loss": np.array([[nan, 0.06, nan, 0.06], [nan, 0.1, nan, 0.1]]),
        "converged_cosine": np.array([[0.0, 0.5, 1.0, nan], [1.0, 1.0, 1.0, 1.0]]),
    }
    np.testing.assert_allclose(per_edit(scalars, "psi_gain"), [0.5, 0.0])
    np.testing.assert_allclose(per_edit(scalars, "converged_cosine"), [0.5, 1.0])
    (one,) = diagnoses({"piva": scalars, "dds": {"loss": np.ones((2, 3))}})
    assert one.variant == "piva"
    assert set(one.values) == {"psi_gain", "converged_cosine"}
    assert "| piva | 0.250" in diagnoses_markdown([one])

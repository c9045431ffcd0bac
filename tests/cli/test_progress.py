from types import SimpleNamespace

import pytest

from piva_bench.cli.progress import BarProgress, PlainProgress
from piva_bench.metrics.protocol import MetricInfo

METRICS = [
    MetricInfo(name, name.upper(), "", "higher", scale, "identity", "", True)
    for name, scale in (("psnr", 1.0), ("mse", 1000.0))
]


def follow(progress):
    """A run of two methods with two edits each, one of which fails and one of which has an undefined metric."""
    batch = {
        name: SimpleNamespace(variant=SimpleNamespace(name=name), all_units=[0, 1])
        for name in ("piva", "dds")
    }
    with progress:
        progress.started(4, METRICS, 2)
        progress.batch_started(1, batch["piva"])
        progress.batch_started(2, batch["dds"])
        progress.step(1, 0.5, {})
        progress.step(2, 0.5, {})
        progress.committed(1, record("piva"), scores(psnr=20.0, mse=0.001))
        progress.committed(1, record("piva"), scores(psnr=30.0, mse=None))
        progress.batch_ended(1)
        progress.committed(2, record("dds"), scores(psnr=10.0, mse=0.002))
        progress.committed(2, record("dds", "failed"), None)
        progress.batch_ended(2)
        progress.warn("[bold]a file[/bold] is torn")


def record(method, status="ok"):
    return SimpleNamespace(method=method, status=status)


def scores(**values):
    return SimpleNamespace(values=values)


def test_plain_lines_show_running_means_of_the_method_at_work(capsys):
    follow(PlainProgress())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[2/4] piva  PSNR 25  MSE 1  ")
    assert lines[1].startswith("[4/4] dds  PSNR 10  MSE 2  1 failed  0:00 left")
    assert lines[2] == "warning: [bold]a file[/bold] is torn"
    assert len(lines) == 3


@pytest.mark.parametrize("todo", [0, 4])
def test_the_bar_follows_the_same_events(capsys, todo):
    progress = BarProgress()
    if todo:
        follow(progress)
        assert progress._bar.tasks[0].completed == 4
        assert "[bold]a file[/bold] is torn" in capsys.readouterr().err
    else:
        with progress:
            progress.started(0, METRICS, 0)

"""Several processes train as one that takes all their batches at once."""

import json
import os
import subprocess
import sys

import pytest
import torch

from piva_bench.studio.timed_training import learning_rate_factor

TRAINING = """
import json, sys, types
from pathlib import Path
import torch
from piva_bench.studio import timed_training
from piva_bench.studio.data_parallel import leave_the_rest_to_the_first, rank_and_size

rank, _ = rank_and_size()
now = iter(range(1000))
timed_training.time = types.SimpleNamespace(monotonic=lambda: float(next(now)) * (1 + rank))  # 1 and 2 seconds a step
torch.manual_seed(0)
net = torch.nn.Linear(3, 1)
data = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(1))
lines = []

def loss_at(batch):
    return (net(data[batch % 2]) - 1).square().mean()

folder = Path(sys.argv[1])
steps, seconds = timed_training.train_for(
    0.25, model=net, optimizer=torch.optim.SGD(net.parameters(), 0.1), loss_at=loss_at,
    checkpoint=folder / "net.pt", signature={}, resume=True, earlier=(5, 7.0), log=lines.append,
)
(folder / f"rank-{rank}").touch()
processes = leave_the_rest_to_the_first()
(folder / "report.json").write_text(json.dumps(
    {"steps": steps, "seconds": seconds, "processes": processes, "lines": lines,
     "weight": net.weight.tolist(), "rank": rank}
))
"""


def _train(folder, processes):
    """The report of the first process; with one process, without ``torchrun``."""
    script = folder / "training.py"
    script.write_text(TRAINING)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(script), str(folder)]
    # On a busy machine torchrun has been seen to fail once; what is tested is not the launch.
    for last in (False, False, True):
        run = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=last, timeout=120)
        if run.returncode == 0:
            break
        (folder / "net.pt").unlink(missing_ok=True)
    return json.loads((folder / "report.json").read_text())


def test_two_processes_step_by_the_mean_of_their_gradients_and_the_first_writes(tmp_path):
    report = _train(tmp_path, 2)
    assert report["rank"] == 0
    assert report["processes"] == 2
    assert (tmp_path / "rank-1").exists()
    # 15 seconds of budget at the mean of 1 and 2 seconds a step; what was earlier is added, and costs nothing.
    assert report["steps"] == 10 + 5
    assert report["seconds"] == pytest.approx(15 + 7)

    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    data = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(1)).flatten(0, 1)
    for step in range(10):
        optimizer.param_groups[0]["lr"] = 0.1 * learning_rate_factor(step, 1.5 * step / 15)
        optimizer.zero_grad()
        torch.autograd.backward((net(data) - 1).square().mean())
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    torch.testing.assert_close(torch.tensor(report["weight"]), net.weight.detach())


def test_a_training_that_goes_on_remembers_what_was_earlier(tmp_path):
    first = _train(tmp_path, 1)
    assert (first["steps"], first["processes"]) == (15 + 5, 1)
    again = _train(tmp_path, 1)
    assert (again["steps"], again["seconds"]) == (first["steps"], first["seconds"])
    assert again["lines"] == ["resumed at step 15 after 0.2 minutes"]

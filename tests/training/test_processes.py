"""Several processes: two of them, on CPUs through gloo, do what one does with the same batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import restora
from restora import training
from restora.errors import MissingExtra, UsageError
from restora.training.processes import FabricProcesses, Processes, processes
from tests.training.conftest import TINY

SCRIPT = """
import sys, torch
from restora import training
from restora.training.processes import processes
torch.set_num_threads(1)
place = processes("cpu")
assert place.world == 2, place.world
recipe = training.load_recipe(sys.argv[1])
trainer = training.Trainer(recipe, sys.argv[2], sys.argv[2], sys.argv[3], threads=1, device=place)
gradients = {}
inner = trainer.processes.average
def average(tensors):
    tensors = list(tensors)
    inner(tensors)
    gradients.setdefault(trainer.step, [t.clone() for t in tensors])
trainer.processes.average = average
trainer.run(resume=len(sys.argv) > 4)
torch.save({"gradients": gradients, "weights": trainer.net.state_dict()}, f"{sys.argv[3]}/rank{place.rank}.pt")
"""
CHANGES = {**TINY, "steps": 5, "optimiser": {"kind": "sgd", "lr": 0.05}, "validation": {"every": 5}}


def test_two_processes_average_to_the_gradient_of_the_whole_batch(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric", reason="several processes need restora[train]")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(CHANGES))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **os.environ, "PYTHONPATH": str(Path(restora.__file__).parents[1]), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
        "GROUP_RANK": "0",
    }  # fmt: skip
    command = [sys.executable, "-c", SCRIPT, str(recipe), str(photos), str(tmp_path)]
    started = [
        subprocess.Popen(
            command, env={**common, "RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE, text=True
        )
        for r in (0, 1)
    ]
    for process in started:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    ranks = [torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1)]
    for key, value in ranks[0]["weights"].items():
        assert torch.equal(value, ranks[1]["weights"][key]), "the processes drifted apart"

    single = training.Trainer(training.parse_recipe({**CHANGES, "name": "one"}), photos, photos, tmp_path, threads=1)
    gradients = {}
    single.processes.average = lambda tensors: gradients.update({single.step: [t.clone() for t in tensors]})  # type: ignore[method-assign]
    single.run()
    for step in range(5):
        for ours, theirs in zip(gradients[step], ranks[0]["gradients"][step], strict=True):
            assert ours.abs().max() > 0 and (ours - theirs).abs().max() < 1e-5
    for key, value in single.net.state_dict().items():
        assert (value - ranks[0]["weights"][key]).abs().max() < 1e-5
    lines = (tmp_path / "tiny" / "log.jsonl").read_text().splitlines()
    assert len(lines) == 2, "only the first process writes"


def test_one_process_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    assert type(processes("cpu")) is Processes and processes("cpu").world == 1
    with pytest.raises(MissingExtra, match=r"restora\[train\]"):
        FabricProcesses("cpu", 2)
    with pytest.raises(UsageError, match="nonesuch"):
        Processes("nonesuch")

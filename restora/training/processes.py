"""One process or several: device, rank, and the few words that processes have to exchange."""

from __future__ import annotations

import atexit
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from restora.errors import MissingExtra, UsageError


class Processes:
    """A single process on a device: nothing has to be exchanged."""

    rank, world = 0, 1

    def __init__(self, device: str = "cpu") -> None:
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"The device '{device}' cannot be used here: {str(error).splitlines()[0]}") from error

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replaces tensors by their means over all processes."""

    def same(self, modules: Iterable[nn.Module]) -> None:
        """Gives all processes the first one's weights."""

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return flag

    def wait(self) -> None:
        """Until all are here."""


class FabricProcesses(Processes):
    """Several processes through Lightning Fabric, one a device; started by `torchrun`, or by Fabric itself.

    Gradients are averaged by ourselves, phase by phase, in one message for all of them: a wrapper around the network would have
    to be told which of several losses and modules is at work.

    Args:
        device: ``cpu`` or ``cuda``. count: processes on this machine.

    Raises:
        MissingExtra: Lightning Fabric is not installed.
    """

    def __init__(self, device: str = "cpu", count: int = 1) -> None:
        fabric: Any = _fabric()
        kind = device.split(":")[0]
        self.fabric: Any = fabric(
            accelerator="cuda" if kind == "cuda" else "cpu", devices=count, strategy="ddp" if count > 1 else "auto"
        )
        self.fabric.launch()
        super().__init__(str(self.fabric.device))
        self.rank, self.world = self.fabric.global_rank, self.fabric.world_size  # type: ignore[misc]
        atexit.register(_leave)  # the group's threads must have ended before the interpreter does

    def average(self, tensors: Iterable[Tensor]) -> None:
        members = list(tensors)
        if not members or self.world == 1:
            return
        flat = torch.cat([t.detach().reshape(-1).float() for t in members])
        flat = self.fabric.all_reduce(flat, reduce_op="mean")
        for tensor, mean in zip(members, flat.split([t.numel() for t in members]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))

    def same(self, modules: Iterable[nn.Module]) -> None:
        for module in modules:
            for tensor in module.state_dict().values():
                tensor.copy_(self.fabric.broadcast(tensor.detach(), src=0))

    def any(self, flag: bool) -> bool:
        told = self.fabric.all_reduce(torch.tensor(float(flag), device=self.device), reduce_op="sum")
        return bool(told > 0)

    def wait(self) -> None:
        self.fabric.barrier()


def _leave() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _fabric() -> Any:
    """The class, under either of the names that it is installed by."""
    import importlib

    for name in ("lightning.fabric", "lightning_fabric"):
        try:
            return importlib.import_module(name).Fabric
        except ImportError:
            continue
    raise MissingExtra("Training in several processes needs Lightning Fabric: pip install 'restora[train]'.")


def processes(device: str = "cpu", count: int = 1) -> Processes:
    """The plumbing for a run: plain for one process, Fabric for several or under `torchrun`."""
    import os

    started = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 or started > 1:
        return FabricProcesses(device, max(count, int(os.environ.get("LOCAL_WORLD_SIZE", started))))
    return Processes(device)

"""Training whose weights, gradients and optimizer state are spread over the processes (FSDP2)."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

STEPS = ("training_step", "validation_step", "test_step", "predict_step")


class Sharded(ModelParallelStrategy):
    """Each process has its share of the data and of everything that grows with the model.

    Lightning's `ModelParallelStrategy` with all processes, of all nodes, along the data-parallel axis. Checkpoints are
    single files, the same as of any other strategy: a run may go on, or be tested, with or without it.

    Args:
        timeout: how long a process waits for the others.
    """

    def __init__(self, timeout: timedelta = timedelta(minutes=30)) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout)

    def setup_environment(self) -> None:
        """Take all processes for the mesh; their number is not known before."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Load weights and optimizer states, each process its share.

        Lightning's own takes it for granted that every optimizer has a state; SGD without momentum has none.
        """
        optimizers = self.optimizers
        states = torch.load(checkpoint_path, "cpu", mmap=True, weights_only=weights_only).get("optimizer_states", [])
        stateless = [(own, state) for own, state in zip(optimizers, states, strict=False) if not state["state"]]
        if not stateless:
            return super().load_checkpoint(checkpoint_path, weights_only)
        self.optimizers = []
        checkpoint = super().load_checkpoint(checkpoint_path, weights_only)
        self.optimizers = optimizers
        for own, state in stateless:
            own.load_state_dict(state)
        return checkpoint


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Spreads a LightningModule over a mesh, once.

    It is one group: its weights are gathered when a step begins, and gradients are reduced when it ends. (Parts are
    used outside of their own ``forward``, the output layer's weight in the fused loss for one, and may be tied.)

    Args:
        module: with the steps of a LightningModule, which count as its ``forward``.
        mesh: Lightning's, with an axis ``data_parallel``.
    """
    if isinstance(module, FSDPModule):
        return
    fully_shard(module, mesh=mesh["data_parallel"])
    for step in STEPS:
        if hasattr(module, step):
            register_fsdp_forward_method(module, step)

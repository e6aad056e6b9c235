# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Several processes that train one network, as ``torchrun`` starts them; and the one process that there is otherwise."""

import os
from contextlib import contextmanager

import torch
from torch import distributed as dist

__all__ = ["distributed", "from_first", "gathered", "summed"]


@contextmanager
def distributed(device):
    """
    Join the other processes for as long as the block lasts.

    Parameters
    ----------
    device : `~torch.device`
        Where to train; of several GPUs each process takes its own.

    Yields
    ------
    rank, world : int
        Number of this process, and of all of them; 0 and 1 without ``torchrun``.
    device : `~torch.device`
        That of this process.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield 0, 1, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield dist.get_rank(), world, device
    finally:
        dist.destroy_process_group()


def summed(values, device):
    """Sum of a tensor over the processes."""
    values = values.to(device)
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def gathered(values, world):
    """The parts of a tensor that the processes have, one behind the other."""
    if world == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world)]
    dist.all_gather(parts, values)
    return torch.cat(parts)


def from_first(values, world):
    """A tensor of the first process, in all of them."""
    if world > 1:
        dist.broadcast(values, 0)
    return values

"""This process among those that train together, as torchrun tells it; alone without torchrun."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is; 0 writes and speaks."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def own_share(rows: Any) -> Any:
    """Every world_size()-th row, from our own on: all of them, if we are alone."""
    return rows[rank() :: world_size()]


def gather(own: Sequence[Any]) -> list[Any]:
    """The elements of all processes, one process after another; called by all of them."""
    if world_size() == 1:
        return list(own)
    parts: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(parts, list(own))
    return [element for part in parts for element in part]


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of all processes' tensors; called by all of them."""
    if world_size() > 1:
        torch.distributed.all_reduce(tensor)
    return tensor

"""How processes share the training: `training.strategy`, as Lightning's arguments.

DDP: each holds the whole model and reads its share of every batch. FSDP: each also holds but its
share of weights, gradients, average and optimiser (Zhao et al. 2023, arXiv:2304.11277; in torch,
`fully_shard`), and fetches a block's weights when it is computed.
"""

import os
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from recommender.errors import KuberecError
from recommender.model import SequentialRecommender
from recommender.settings import TrainingConfig
from recommender.training.ranks import world_size


def sharded(config: TrainingConfig) -> bool:
    """Whether the weights are shared out.

    Raises:
        KuberecError: that needs what is not there.
    """
    if config.strategy != "fsdp":
        return False
    if world_size() == 1:
        raise KuberecError(
            "training.strategy: fsdp shares a model between processes, and this is one: start it "
            "with torchrun --nproc-per-node=..., or set training.strategy: auto"
        )
    if config.precision == "float16":
        raise KuberecError(
            "training.strategy: fsdp has no scaler for precision: float16: use bfloat16 or float32"
        )
    if config.compile:
        raise KuberecError(
            "training.strategy: fsdp and training.compile are not tried together: use strategy: "
            "ddp, or set compile: false"
        )
    return True


def placement(config: TrainingConfig) -> dict[str, Any]:
    """Lightning's arguments: one device if alone, else torchrun's processes by the strategy."""
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

    split = sharded(config)
    if world_size() == 1:
        return {"devices": 1}
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    strategy: Any
    if split:
        strategy = ModelParallelStrategy(
            data_parallel_size=world_size(),
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,  # one file, as elsewhere
        )
    else:
        # Buffers are item vectors: constant, the same everywhere, and too much to send each step.
        strategy = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    return {"devices": local, "num_nodes": world_size() // local, "strategy": strategy}


def shard(model: SequentialRecommender, root: nn.Module, mesh: Any, keep: bool = True) -> None:
    """Share out a SequentialRecommender.

    Args:
        root: whose forward pass fetches what lies beside the model's blocks.
        keep: hold that until the backward pass, rather than fetch it twice; where no backward pass
            follows, it must not.
    """
    from torch.distributed.fsdp import fully_shard

    for block in _blocks(model.backbone):
        fully_shard(block, mesh=mesh)
    fully_shard(root, mesh=mesh, reshard_after_forward=not keep)


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    """The layers of a backbone: its longest list of modules."""
    lists = [list(module) for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=[])


def constant_names(model: nn.Module) -> set[str]:
    """What training does not change: item vectors, frozen weights. A new model has them again."""
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    return frozen | {name for name, _ in model.named_buffers()}


def whole_state(module: nn.Module, without: Collection[str] = ()) -> dict[str, Tensor]:
    """A copy of the state on the CPU; of a shared-out module, put together, in process 0 alone.

    Args:
        without: names that are left out, of a module that is not shared out.
    """
    if not any(isinstance(w, torch.distributed.tensor.DTensor) for w in module.parameters()):
        return {
            name: value.detach().cpu().clone()
            for name, value in module.state_dict().items()
            if name not in without
        }
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: Any = get_model_state_dict(module, options=options)
    return dict(state)

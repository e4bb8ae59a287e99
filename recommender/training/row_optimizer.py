"""An optimiser for weights and for one table of embeddings of which a step reads few rows.

Shapes: N rows, U rows of a step, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recommender.errors import KuberecError
from recommender.model import SequentialRecommender


def require_one_process(processes: int) -> None:
    """Raise a KuberecError where several train: NCCL adds up no sparse gradients."""
    if processes > 1:
        raise KuberecError(
            f"training.loss: sampled-softmax trains in one process, and these are {processes}: "
            "sparse gradients are not added up over them. Start one, or set training.loss: softmax"
        )


def use_sparse_rows(model: SequentialRecommender) -> None:
    """Let the item table's gradient have only the rows that a step read."""
    model.id_embedding.sparse = True


def row_tables(model: nn.Module) -> list[Tensor]:
    """The tables whose gradients are sparse."""
    return [
        part.weight for part in model.modules() if isinstance(part, nn.Embedding) and part.sparse
    ]


class RowwiseAdamW(torch.optim.AdamW):
    """AdamW; groups with `"rows": True` hold tables with sparse gradients, of which it moves rows.

    A row of a table has one second moment, of the mean square of its gradient, and its own count
    of steps: 8 bytes a row where Adam has 8 D. There is no first moment. That is Adam (Kingma and
    Ba 2015, arXiv:1412.6980, algorithm 1) with β1 = 0, lazy, and row-wise as the AdaGrad of DLRM's
    tables (Mudigere et al. 2022, arXiv:2104.05158, section 3.1). Weight decay is of the rows that
    are moved. A step costs nothing for the rows that it did not read.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        tables = [
            (table, group)
            for group in self.param_groups
            if group.get("rows")
            for table in group["params"]
        ]
        sparse = [(table, table.grad) for table, _ in tables]
        for table, _ in tables:
            table.grad = None  # AdamW refuses sparse gradients, and passes over none
        super().step()
        for (table, group), (_, slope) in zip(tables, sparse, strict=True):
            table.grad = slope
            if slope is not None:
                self._move_rows(table, slope.coalesce(), group)
        return loss

    def _move_rows(self, table: Tensor, slope: Tensor, group: dict[str, Any]) -> None:
        index_U, slope_UD = slope.indices()[0], slope.values().float()
        state = self.state[table]
        if not state:
            state["square"] = torch.zeros(len(table), device=table.device)
            state["step"] = torch.zeros(len(table), device=table.device)
        beta = group["betas"][1]
        step_U = state["step"][index_U] + 1
        square_U = torch.lerp(slope_UD.square().mean(dim=1), state["square"][index_U], beta)
        state["step"][index_U] = step_U
        state["square"][index_U] = square_U
        size_U = (square_U / (1 - beta**step_U)).sqrt_() + group["eps"]
        decay = 1 - group["lr"] * group["weight_decay"]
        moved_UD = table[index_U] * decay - group["lr"] * slope_UD / size_U[:, None]
        table[index_U] = moved_UD.to(table.dtype)


@torch.no_grad()
def clip_gradients(parameters: Sequence[Tensor], largest: float) -> Tensor:
    """torch.nn.utils.clip_grad_norm_ where some gradients are sparse: the norm before, a scalar."""
    slopes = []
    for weight in parameters:
        if weight.grad is None:
            continue
        if weight.grad.is_sparse:
            weight.grad = weight.grad.coalesce()
            slopes.append(weight.grad._values())
        else:
            slopes.append(weight.grad)
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(s) for s in slopes]))
    torch._foreach_mul_(slopes, (largest / (norm + 1e-6)).clamp(max=1.0))
    return norm

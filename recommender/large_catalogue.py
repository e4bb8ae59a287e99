"""A ranker for catalogues whose full table is too much for one request: two stages, one graph.

Which items are looked at is chosen by cells of near neighbours (`item_cells`): a history's hidden
state is compared with the cells' centres, the items of the best `probes` cells are scored exactly,
what was seen is taken out, and the best K are left. With every cell probed it is `export.Ranker`.
The graph has standard operators alone, so any ONNX Runtime serves it: an index of a library (FAISS,
HNSW) would need a backend of its own in every Triton image.

Rows lie cell after cell, as bytes with a scale each (`int8`) or as float32, once for histories and
scores.

Shapes: B batch, L history, S seen, N+1 items (0 is padding), D width, C cells, M the most items of
a cell, p cells probed, P = p M places looked at, T = K + S candidates.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.errors import KuberecError
from recommender.export import write_ranker
from recommender.item_cells import Cells, make_cells
from recommender.model import SequentialRecommender
from recommender.onnx_session import graph_file
from recommender.schema import MASKED_SCORE
from recommender.settings.export import ExportConfig, TwoStageConfig

LARGE = 1_000_000  # items beyond which `auto` takes two stages


class TwoStageRanker(nn.Module):
    """`export.Ranker`'s inputs and outputs; its answers but for the items of cells not probed.

    Args:
        max_seen: the most seen items that a request may have.

    Raises:
        KuberecError: the cells probed can hold fewer items than `k + max_seen`, which a request may
            have to look through.
    """

    rows: Tensor
    scales: Tensor
    item_of: Tensor
    place_of: Tensor
    centroids: Tensor
    start: Tensor
    size: Tensor
    popular: Tensor
    popular_scores: Tensor

    def __init__(
        self, model: SequentialRecommender, k: int, max_seen: int, config: TwoStageConfig
    ) -> None:
        super().__init__()
        table = model.item_table().detach().numpy()
        items = len(table) - 1
        if k > items:
            raise KuberecError(f"export.k = {k} is more than the {items} items: lower it")
        cells = make_cells(table[1:], config.cell_items, config.seed)
        self.probes = min(config.probes, len(cells.size))
        self.widest = int(cells.size.max())
        needed = k + max_seen
        if self.probes == len(cells.size):  # all there is: what is missing is padding
            self.widest = max(self.widest, -(-needed // self.probes))
        if self.probes * self.widest < needed:
            raise KuberecError(
                f"export.two_stage.probes = {config.probes}: so many cells, of {self.widest} items "
                f"at most, hold fewer than export.k + export.max_seen = {needed}: "
                f"take {-(-needed // self.widest)} probes or more"
            )
        self.model = model
        self.k = k
        self._keep_rows(table, cells, config.int8)
        self.register_buffer("centroids", torch.from_numpy(cells.centroids))
        self.register_buffer("start", torch.from_numpy(cells.start + 1))
        self.register_buffer("size", torch.from_numpy(cells.size))
        self._keep_popular(model.log_popularity, needed)

    def _keep_rows(self, table: np.ndarray, cells: Cells, int8: bool) -> None:
        """Row 0 is padding's; the others follow the cells."""
        item_of = np.concatenate([[0], cells.order + 1])
        place_of = np.empty_like(item_of)
        place_of[item_of] = np.arange(len(item_of))
        rows = torch.from_numpy(table[item_of])
        scales = torch.ones(len(rows), 1)
        if int8:
            scales = rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
            rows = (rows / scales).round().to(torch.int8)
        self.register_buffer("rows", rows)
        self.register_buffer("scales", scales)
        # int32: half the bytes, and enough for two billion items.
        self.register_buffer("item_of", torch.from_numpy(item_of.astype(np.int32)))
        self.register_buffer("place_of", torch.from_numpy(place_of.astype(np.int32)))

    def _keep_popular(self, log_popularity: Tensor, count: int) -> None:
        scores, places = torch.topk(log_popularity[1:], min(count, len(log_popularity) - 1))
        missing = (0, count - len(places))
        self.register_buffer("popular", functional.pad(places + 1, missing)[None])
        self.register_buffer("popular_scores", functional.pad(scores, missing)[None])

    def __getitem__(self, items: Tensor) -> Tensor:
        """The rows of items, as a table of them would give."""
        return self._rows(functional.embedding(items, self.place_of[:, None])[..., 0])

    def _rows(self, places: Tensor) -> Tensor:
        places = places.long()
        return self.rows[places].float() * self.scales[places]

    def forward(
        self, history_ids: Tensor, seen_ids: Tensor, event_times: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        table = cast(Tensor, self)  # it is indexed, nothing else
        hidden_BD = self.model.encode(history_ids, table, last_only=True, times_BL=event_times)[
            :, 0
        ]
        items_BT, scores_BT = self._candidates(hidden_BD, self.k + seen_ids.shape[1])
        known_B1 = (history_ids > 0).any(dim=1, keepdim=True)
        wanted = items_BT.shape[1]
        items_BT = torch.where(known_B1, items_BT, self.popular[:, :wanted])
        scores_BT = torch.where(known_B1, scores_BT, self.popular_scores[:, :wanted])
        seen_BT = (items_BT[:, :, None] == seen_ids[:, None, :]).any(dim=2)
        scores_BT = torch.where(seen_BT | (items_BT == 0), MASKED_SCORE, scores_BT)
        scores_BK, places_BK = torch.topk(scores_BT, self.k, dim=1)
        items_BK = items_BT.gather(1, places_BK)
        return torch.where(scores_BK > MASKED_SCORE, items_BK, 0), scores_BK

    def _candidates(self, hidden_BD: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The best items of the probed cells, seen or not: [B, T] each; 0 where there are fewer."""
        _, cells_Bp = torch.topk(hidden_BD @ self.centroids.T, self.probes, dim=1, sorted=False)
        offset_M = torch.arange(self.widest, device=hidden_BD.device)
        places_BpM = self.start[cells_Bp][:, :, None] + offset_M
        inside_BpM = offset_M < self.size[cells_Bp][:, :, None]
        places_BP = torch.where(inside_BpM, places_BpM, 0).flatten(1)
        scores_BP = (self.rows[places_BP].float() @ hidden_BD[:, :, None])[:, :, 0]
        scores_BP = scores_BP * self.scales[places_BP][:, :, 0]
        scores_BP = torch.where(places_BP > 0, scores_BP, MASKED_SCORE)
        scores_BT, found_BT = torch.topk(scores_BP, count, dim=1)
        return self.item_of[places_BP.gather(1, found_BT)].long(), scores_BT


def wants_two_stages(config: ExportConfig, items: int) -> bool:
    """What `export.scoring` means for a catalogue."""
    if config.scoring == "auto":
        return items > LARGE
    return config.scoring == "two-stage"


def export_two_stage(model: SequentialRecommender, path: Path, config: ExportConfig) -> None:
    """Write the two-stage ranker to `path`, atomically; B, L and S may vary, S up to `max_seen`.

    Raises:
        KuberecError: too few probes, or too few items; see `write_onnx`.
    """
    ranker = TwoStageRanker(model.eval(), config.k, config.max_seen, config.two_stage).eval()
    write_ranker(ranker, model, path, config.max_seen, config.opset, at_most=True)


def nodes_behind_the_blocks(path: Path) -> list[str]:
    """The names of all nodes but those that make the hidden state: what choosing items is made of.

    Hidden states are compared with the cells' centres first; the other products are of items that
    are bytes already.
    """
    import onnx

    graph = onnx.load(str(graph_file(path)), load_external_data=False).graph
    made_by = {name: node for node in graph.node for name in node.output}
    (compared,) = (
        node for node in graph.node if any(name.startswith("centroids") for name in node.input)
    )
    blocks: dict[str, Any] = {}
    waiting = [compared.input[0]]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and node.name not in blocks:
            blocks[node.name] = node
            waiting += node.input
    rows = {name for name, node in blocks.items() if node.op_type == "Gather"}
    return [node.name for node in graph.node if node.name not in blocks or node.name in rows]

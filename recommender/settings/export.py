"""`export`: the serving graph."""

from typing import Literal

from pydantic import Field, field_validator

from recommender.config import Section
from recommender.opsets import OPSET, opset_problem
from recommender.settings.parity import ParityConfig


class TwoStageConfig(Section):
    """Scoring some of a large catalogue (recommender.large_catalogue)."""

    cell_items: int = Field(
        default=256, ge=2, description="the most items of a cell of near neighbours"
    )
    probes: int = Field(
        default=256,
        ge=1,
        description="cells whose items are scored: more find more, and take longer",
    )
    int8: bool = Field(
        default=True, description="items as bytes with a scale each: a quarter of the file"
    )
    seed: int = Field(default=0, description="of the k-means that makes the cells")


class ExportConfig(Section):
    """The fixed shapes of the serving graph, and how many answers travel with it."""

    k: int = Field(default=100, ge=10, description="items a request gets; metrics at 10 need 10")
    max_seen: int = Field(
        default=1024, gt=0, description="latest seen and excluded items that are masked"
    )
    # A rollout compares both versions by them where no client asks: fewer than about 20 lists that
    # have nothing in common could still be chance, at the level of one of its looks.
    golden_requests: int = Field(default=32, gt=0, description="requests kept with their answers")
    opset: int = Field(
        default=OPSET, description="of the ranker's ONNX graphs; what every server reads is checked"
    )
    scoring: Literal["auto", "exact", "two-stage"] = Field(
        default="auto",
        description="exact: every item is scored; two-stage: those of the nearest cells; auto: "
        "two-stage beyond a million items, unless a step wants exact (float16, quantise-items)",
    )
    two_stage: TwoStageConfig = Field(
        default=TwoStageConfig(), description="where `scoring` takes two stages"
    )
    trim_padding: bool = Field(
        default=True,
        description="cut off, inside the graph, what is padding in a whole batch: the same answers,"
        " sooner; the graph for GPUs is left as it is",
    )
    parity: ParityConfig = Field(
        default=ParityConfig(), description="how far each hand-over may change the answers"
    )

    @field_validator("opset")
    @classmethod
    def _servers_read_it(cls, opset: int) -> int:
        problem = opset_problem(opset)
        if problem is not None:
            raise ValueError(problem)
        return opset

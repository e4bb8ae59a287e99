"""`export`: the serving graph."""

from pydantic import Field

from recommender.config import Section
from recommender.settings.parity import ParityConfig


class ExportConfig(Section):
    """The fixed shapes of the serving graph, and how many answers travel with it."""

    k: int = Field(default=100, ge=10, description="items a request gets; metrics at 10 need 10")
    max_seen: int = Field(
        default=1024, gt=0, description="latest seen and excluded items that are masked"
    )
    # A rollout compares both versions by them where no client asks: fewer than about 20 lists that
    # have nothing in common could still be chance, at the level of one of its looks.
    golden_requests: int = Field(default=32, gt=0, description="requests kept with their answers")
    parity: ParityConfig = ParityConfig()

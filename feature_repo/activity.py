"""An on-demand view: what a user's history tells at a glance, by one function offline and online.

For analysts and for rules around a recommender ("answer newcomers otherwise"). The model does not
read it, so it is in no model version's FeatureService, and the transformer never runs its code,
which Feast keeps in the registry.
"""

from typing import Any

from feast import FeatureView, Field, OnDemandFeatureView
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

NAME = "user_activity"


def user_activity(history: FeatureView) -> OnDemandFeatureView:
    """Of the events that a user's `history` holds; zeros where it holds none.

    distinct_items: different items among them; span_seconds: from the first of them to the last;
    session_events: the latest ones with no more than half an hour between one and the next.
    """

    @on_demand_feature_view(
        name=NAME,
        sources=[history[["history", "history_times"]]],
        schema=[  # without descriptions: Feast compares these with what it infers
            Field(name="distinct_items", dtype=Int64),
            Field(name="span_seconds", dtype=Float64),
            Field(name="session_events", dtype=Int64),
        ],
        mode="python",
        description="what a history tells at a glance; computed when it is asked for",
        owner=history.owner,
    )
    def activity(inputs: dict[str, Any]) -> dict[str, Any]:
        # Feast keeps this source in the registry and runs it from there: nothing from outside it.
        distinct, spans, sessions = [], [], []
        for items, times in zip(inputs["history"], inputs["history_times"], strict=True):
            times = [] if times is None else list(times)
            session = min(len(times), 1)
            while session and session < len(times):
                if times[-session] - times[-session - 1] > 1_800_000_000:
                    break
                session += 1
            distinct.append(len(set([] if items is None else items)))
            spans.append((times[-1] - times[0]) / 1e6 if times else 0.0)
            sessions.append(session)
        return {"distinct_items": distinct, "span_seconds": spans, "session_events": sessions}

    return activity

"""How new features are: the newest row that was read, never one of the future."""

from feature_readers import FakeReader, run, settings, source_of
from prometheus_client import REGISTRY

from serving.transformer import feature_metrics

NAME = "kuberec_feature_newest_event_timestamp_seconds"


def newest(view: str) -> float | None:
    return REGISTRY.get_sample_value(NAME, {"view": view})


def test_the_newest_row_counts() -> None:
    feature_metrics.saw("some_view", 200.0)
    feature_metrics.saw("some_view", 100.0)
    feature_metrics.saw("other_view", 50.0)
    assert (newest("some_view"), newest("other_view"), newest("no_view")) == (200.0, 50.0, None)


def test_lookups_are_seen() -> None:
    feature_metrics._seen.clear()
    source = source_of(settings(), FakeReader())
    run(source, lambda: source.lookup(["old", "nobody"]))
    old = newest("user_history")
    source = source_of(settings(), FakeReader())
    run(source, lambda: source.lookup(["fresh", "old", "ahead"]))
    now = newest("user_history")
    assert old is not None
    assert now == old + 5000.0  # "ahead" counts as of now

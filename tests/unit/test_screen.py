"""What is printed of other people's texts is printed as it is."""

import io

import pytest
from rich.console import Console

from pipelines.screen import feature_warning, show_recommendations

ODD = ["[rec] 2", "Quarantine [/rec]", "[bold]", "Amélie → 2"]


def test_titles_with_brackets_are_shown_as_they_are():
    out = io.StringIO()
    items = [{"item_id": f"[{i}]", "title": title, "score": 1.0} for i, title in enumerate(ODD)]
    answer = {"user": "[/u]", "history": items, "recommendations": items}
    answer |= {"feature_status": "ok", "feature_age_s": 1.0}
    show_recommendations(answer, Console(file=out, width=200), as_json=False)
    for text in (*ODD, "[0]", "[/u]"):
        assert text in out.getvalue()


@pytest.mark.parametrize(
    ("status", "warning"),
    [
        ("stale", "older than the endpoint's limit (2.0 days old)"),
        ("fallback_stale", "too old to be used (2.0 days old): popular items"),
        ("fallback_timeout", "did not answer in time: popular items"),
        ("fallback_error", "failed: popular items"),
        ("fallback_unavailable", "no feature store to read: popular items"),
    ],
)
def test_features_that_were_not_fresh_are_told(status: str, warning: str) -> None:
    out = io.StringIO()
    answer = {"user": "1", "history": [], "recommendations": [], "feature_status": status}
    answer["feature_age_s"] = 172_800.0
    show_recommendations(answer, Console(file=out, width=200), as_json=False)
    assert warning in out.getvalue()
    for fine in ("ok", "given", "unknown", None):
        assert feature_warning(fine, 5.0) == ""

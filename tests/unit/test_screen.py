"""What is printed of other people's texts is printed as it is."""

import io

from rich.console import Console

from pipelines.screen import show_recommendations

ODD = ["[rec] 2", "Quarantine [/rec]", "[bold]", "Amélie → 2"]


def test_titles_with_brackets_are_shown_as_they_are():
    out = io.StringIO()
    items = [{"item_id": f"[{i}]", "title": title, "score": 1.0} for i, title in enumerate(ODD)]
    answer = {"user": "[/u]", "history": items, "recommendations": items}
    show_recommendations(answer, Console(file=out, width=200), as_json=False)
    for text in (*ODD, "[0]", "[/u]"):
        assert text in out.getvalue()

"""What MLflow allows: names of parameters and metrics, lengths of values."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from recommender.config import whole_numbers

MAX_NAME, MAX_VALUE = 250, 6000  # of MLflow 3's stores


def name(text: str) -> str:
    """As MLflow takes it: `ndcg@10` becomes `ndcg_at_10`, other strange characters `_`."""
    return re.sub(r"[^\w\-. :/]", "_", text.replace("@", "_at_"))[:MAX_NAME].strip("/. ")


def flattened(content: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    """(`section.key`, value) of nested mappings; a list is one value, an empty mapping none."""
    for key, value in content.items():
        path = f"{head}.{key}" if head else str(key)
        if isinstance(value, Mapping):
            yield from flattened(value, path)
        else:
            yield path, value


def parameters(sections: Mapping[str, Any]) -> dict[str, str]:
    """Config sections as MLflow's parameters."""
    found = {}
    for path, value in flattened(whole_numbers(sections)):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found[name(path)] = text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"
    return found


def metrics(content: Mapping[str, Any], head: str = "") -> dict[str, float]:
    """The finite numbers of nested mappings, `head/key` each."""
    found = {}
    for path, value in flattened(content):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[name(f"{head}/{path.replace('.', '/')}" if head else path)] = float(value)
    return found

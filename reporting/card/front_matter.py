"""The YAML at the head of MODEL_CARD.md, as Hugging Face's tools read it.

Keys: https://huggingface.co/docs/hub/model-cards#model-card-metadata; `model-index` after the
specification in huggingface_hub (modelcard.md of its templates).
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from reporting.card.measured import BEYOND, QUALITY

# Licences by which the Hub's filter knows a model; any other is "other" with a name.
KNOWN_LICENCES = (
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "unlicense"),
    *("gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "epl-2.0", "eupl-1.1", "openrail", "cc0-1.0"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0"),
    "cc-by-nc-nd-4.0",
)


def front_matter(card: Mapping[str, Any]) -> str:
    """`---`, YAML, `---`.

    Args:
        card: of `build_card`.
    """
    content = {
        **_licence(card["people"]["licence"]),
        **({"language": card["languages"]} if card["languages"] else {}),
        "library_name": "kuberec",
        "tags": ["recommender-system", "sequential-recommendation", "kuberec"],
        **({"base_model": card["base_model"]} if card["base_model"] else {}),
        "metrics": [_type(name) for name in _measured(card)],
        "model-index": [_results(card)],
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---\n"


def _licence(licence: str | None) -> dict[str, str]:
    if licence is None:
        return {"license": "unknown"}
    known = licence.lower()
    return (
        {"license": known}
        if known in KNOWN_LICENCES
        else {"license": "other", "license_name": licence}
    )


def _results(card: Mapping[str, Any]) -> dict[str, Any]:
    """One result: the model on the test split; its numbers as they were measured, unrounded."""
    data, model = card["data"], card["evaluation"]["rankers"][0]
    return {
        "name": card["version"],
        "results": [
            {
                "task": {"type": "sequential-recommendation", "name": "Next item"},
                "dataset": {
                    "name": data["name"],
                    "type": re.sub(r"[^a-z0-9]+", "-", data["name"].lower()).strip("-") or "data",
                    "split": "test",
                    "revision": data["fingerprint"],
                },
                "metrics": [
                    {"type": _type(name), "name": shown(name), "value": model[name]}
                    for name in _measured(card)
                ],
            }
        ],
    }


def shown(name: str) -> str:
    """A metric as people write it: ndcg@10 is NDCG@10."""
    return name.replace("_", " ") if name in BEYOND else name.upper()


def _type(name: str) -> str:
    return name.replace("@", "_at_")


def _measured(card: Mapping[str, Any]) -> list[str]:
    model = card["evaluation"]["rankers"][0]
    return [name for name in (*QUALITY, *BEYOND) if model.get(name) is not None]

"""What the card says of use and ethics where its config does not."""

from collections.abc import Mapping
from typing import Any

from recommender.settings import ModelConfig


def intended_use_of(data: Mapping[str, Any], shape: ModelConfig) -> list[str]:
    """What such a model is for."""
    return [
        f"Lists of items of the catalogue of {data['name']} for a person whose latest events are "
        "known: what this person is likely to choose next.",
        "Similar uses of one history, such as the items of a session: a request may bring its own "
        f"history, of which the latest {shape.max_length} known items are read.",
    ]


def out_of_scope_of(data: Mapping[str, Any]) -> list[str]:
    """What it is not for, whoever uses it."""
    said = [
        "Decisions on people: credit, work, insurance, health, housing, policing.",
        "Conclusions on a person's traits from a history or from what is recommended.",
        "Other catalogues: items are known by their ids, and by their texts as far as a version "
        "was given them.",
        "Scores as probabilities, or compared between users or versions.",
    ]
    if data["license"]:
        said.append(f"Whatever the data's terms rule out: {data['license']}.")
    return said


def ethics_of(data: Mapping[str, Any]) -> list[str]:
    """What follows from the way such models are made."""
    return [
        "It learns from what people were shown and chose: what is popular tends to stay so.",
        f"It knows {data['all']['users']:,} people, those of the source; nothing says that others "
        "choose alike.",
        "Whether quality differs between groups of people, by age, sex or origin, is not measured: "
        "the model reads no attribute of users, and slices are of events and items.",
    ]

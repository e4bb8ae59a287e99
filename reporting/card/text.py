"""A card's numbers and facts in words, the same on the page and in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"  # a number that is not known
UNSAID = "not stated (section card of the run's YAML)"


def people_facts(people: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """Who answers for the model, and its licence."""
    return [
        (name, people[key] or UNSAID)
        for name, key in (("Owner", "owner"), ("Contact", "contact"), ("Licence", "licence"))
    ]


def data_facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Source, terms, period, fingerprint, and what was trained on."""
    core = data["core"]
    return [
        ("Source", data["name"]),
        ("Licence of the data", data["license"] or "not stated"),
        ("Period (UTC)", " to ".join(data["period"]) if data["period"] else NONE),
        ("Fingerprint", data["fingerprint"]),
        (
            f"Trained on ({data['k_core']}-core)",
            f"{core['users']:,} users, {core['items']:,} items, {core['events']:,} events",
        ),
    ]


def beside_champion(champion: Mapping[str, Any]) -> str:
    """The comparison with what is registered as best, in a sentence."""
    bounds = champion.get("difference_interval")
    said = f"NDCG@10 minus that of the champion, version {champion['version']}: "
    return said + interval(champion.get("difference"), bounds, signed=True) + "."


def behaviour_note(measured: Mapping[str, Any]) -> str:
    """What the checks of behaviour are, and on how many users."""
    users = measured["behaviour_users"]
    said = "Changes of a history that must change the answer, and some that must not"
    return f"{said}; {users:,} test users." if users is not None else f"{said}."


def interval(value: float | None, bounds: Sequence[float] | None, *, signed: bool = False) -> str:
    """`0.1233 (0.1102 to 0.1364)`, or what there is of it."""
    if value is None:
        return span(bounds, signed=signed)
    shown = decimals(value, signed=signed)
    return f"{shown} ({span(bounds, signed=signed)})" if bounds else shown


def span(bounds: Sequence[float] | None, *, signed: bool = False) -> str:
    """`0.1102 to 0.1364`."""
    return " to ".join(decimals(each, signed=signed) for each in bounds) if bounds else NONE


def decimals(value: float | None, *, signed: bool = False) -> str:
    """Four digits behind the point."""
    return NONE if value is None else f"{value:{'+.4f' if signed else '.4f'}}"

"""A model card as Markdown, with the YAML that tools read at its head."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from reporting.card.front_matter import front_matter, shown
from reporting.card.measured import BEYOND, MEANING, QUALITY
from reporting.card.text import (
    NONE,
    behaviour_note,
    beside_champion,
    data_facts,
    interval,
    people_facts,
)
from reporting.ledger import LOSES, cost_table, quality_table, slice_table
from reporting.markdown import bullets, inert, paragraph, plain, table


def card_markdown(card: Mapping[str, Any]) -> str:
    """MODEL_CARD.md.

    Args:
        card: of `build_card`.
    """
    data = card["data"]
    parts = [
        f"# Model card: {plain(inert(data['name']))}, version {card['version']}",
        plain(_first_line(card)),
        "## Model details",
        _facts([*people_facts(card["people"]), ("Version", card["version"]), *card["details"]]),
        "## Intended use",
        _lines(card["intended_use"]),
        "### Out of scope",
        _lines(card["out_of_scope"]),
        "## Data",
        *_data(data),
        "## Evaluation",
        *_evaluation(card["evaluation"]),
        "## Compression",
        *_ledger(card["ledger"]),
        "## Limits",
        _lines(card["limits"]),
        "## Ethical considerations",
        _lines(card["ethics"]),
        "## Reproduce and cite",
        *_reproduce(card),
    ]
    return front_matter(card) + "\n" + "\n\n".join(parts) + "\n"


def _first_line(card: Mapping[str, Any]) -> str:
    model = card["evaluation"]["rankers"][0]
    return (
        f"A sequential recommender, made {card['created'][:10]}. NDCG@10 "
        f"{interval(model['ndcg@10'], card['evaluation']['intervals'].get('ndcg@10'))} on the test "
        "split."
    )


def _lines(texts: Sequence[str]) -> str:
    return bullets([inert(text) for text in texts])


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    return table(("", ""), [(name, inert(value)) for name, value in rows])


def _data(data: Mapping[str, Any]) -> list[str]:
    parts = [
        _facts(data_facts(data)),
        table(
            ("table", "dropped, and why", "read", "kept"),
            [
                (row["table"], dropped(row), f"{row['read']:,}", f"{row['kept']:,}")
                for row in data["tables"]
            ],
            numbers=2,
        ),
    ]
    if data["acknowledgement"]:
        parts.append(paragraph(inert(data["acknowledgement"])))
    return [*parts, "### Privacy", _lines(data["privacy"])]


def dropped(row: Mapping[str, Any]) -> str:
    """Reasons and rows of a table."""
    reasons = (f"{inert(reason)}: {count:,}" for reason, count in row["dropped"].items())
    return "; ".join(reasons) or "nothing"


def _evaluation(measured: Mapping[str, Any]) -> list[str]:
    users = f"; {measured['users']:,} users" if measured["users"] is not None else ""
    parts = [plain(f"{measured['protocol'] or 'Protocol not stated'}{users}.")]
    rows = [(row["ranker"], *_numbers(row, QUALITY)) for row in measured["rankers"]]
    intervals = measured["intervals"]
    rows[0] = (
        "**model**",
        *(interval(measured["rankers"][0].get(name), intervals.get(name)) for name in QUALITY),
    )
    if unmasked := measured["unmasked"]:
        rows.insert(1, ("model, history not masked", *_numbers(unmasked, QUALITY)))
    if ties := measured["ties"]:
        rows.insert(1, ("model, order within a timestamp shuffled", *_numbers(ties, QUALITY)))
    if champion := measured["champion"]:
        name = f"champion, version {champion['version']}"
        rows.append((name, *_numbers(champion, QUALITY)))
    parts.append(table(("ranker", *map(shown, QUALITY)), rows, numbers=len(QUALITY)))
    if intervals:
        parts.append("In brackets 95 % intervals, by bootstrap over users.")
    if champion:
        parts.append(plain(beside_champion(champion)))
    if measured["slices"]:
        parts += ["### Slices", _slices(measured["slices"])]
    parts += _calibration(measured["calibration"])
    if beyond := [name for name in BEYOND if measured["rankers"][0].get(name) is not None]:
        rows = [(row["ranker"], *_numbers(row, beyond)) for row in measured["rankers"]]
        parts += [
            "### Coverage, novelty, popularity",
            table(("ranker", *map(shown, beyond)), rows, numbers=len(beyond)),
            " ".join(MEANING[name] for name in beyond),
        ]
    if measured["behaviour"]:
        parts += ["### Behaviour", behaviour_note(measured), _checks(measured["behaviour"])]
    return [*parts, "### Gate", _checks(measured["gate"])] if measured["gate"] else parts


def _slices(slices: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            row["by"],
            inert(row["slice"]),
            f"**{row['note']}**" if row["note"].startswith("worse") else row["note"],
            f"{row['users']:,}",
            interval(row["ndcg@10"], row.get("interval")),
            *_numbers(row, ("hr@10", "baseline_ndcg@10", "champion_ndcg@10")),
            interval(None, row.get("difference_interval"), signed=True),
        )
        for row in slices
    ]
    head = ("by", "slice", "", "users", "NDCG@10", "HR@10", "best baseline", "champion")
    return table((*head, "difference to it"), rows, numbers=6)


def _calibration(calibration: Mapping[str, Any] | None) -> list[str]:
    if calibration is None:
        return []
    rows = [
        (f"{each['confidence']:.3f}", f"{each['accuracy']:.3f}", f"{each['users']:,}")
        for each in calibration["bins"]
    ]
    return [
        "### Calibration",
        f"Of the first item of each list: its softmax probability, and how often it was the one. "
        f"Expected calibration error {calibration['ece']:.4f}.",
        table(("probability", "chosen", "users"), rows, numbers=3),
    ]


def _checks(rows: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ("check", "value", "limit", ""),
        [
            (
                inert(row["name"]),
                f"{row['value']:.4g}" if isinstance(row["value"], float) else str(row["value"]),
                row["limit"],
                "passed" if row["passed"] else "**failed**",
            )
            for row in rows
        ],
    )


def _ledger(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = []
    for head, cells in (quality_table(rows), cost_table(rows)):
        parts.append(table(head, cells, numbers=len(head) - 1))
    parts.append("In brackets 95 % intervals, and times smaller or faster than the full model.")
    head, cells = slice_table(rows[-1])
    if cells:
        marked = [(inert(row[0]), *row[1:-1], _bold(row[-1])) for row in cells]
        parts += [
            "### What serves, by slice",
            table(head, marked, numbers=len(head) - 2),
            f"Beside the full model, the greatest loss first. **{LOSES}**: beyond chance, by the "
            "interval that holds for all judged slices together.",
        ]
    return parts


def _bold(mark: str) -> str:
    return f"**{mark}**" if mark == LOSES else mark


def _reproduce(card: Mapping[str, Any]) -> list[str]:
    how = card["reproduce"]
    parts = [
        "`config.yaml` lies beside this card and has every value, defaults included:",
        f"```sh\n{how['command']}\n```",
        f"The same data (fingerprint `{how['data_fingerprint']}`), settings, code "
        f"(`{how['code']}`) and kind of machine give the version {card['version']} again. "
        "What shapes the model:",
        f"```yaml\n{yaml.safe_dump(how['sections'], sort_keys=False, allow_unicode=True)}```",
    ]
    if cited := card["people"]["citation"]:
        parts.append(plain(inert(cited)))
    return [*parts, "The card's form: Mitchell et al. 2019, *Model Cards for Model Reporting*."]


def _numbers(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [NONE if row.get(name) is None else f"{row[name]:.4f}" for name in names]

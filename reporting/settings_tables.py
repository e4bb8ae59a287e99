"""The tables of settings in docs/, made of the settings themselves.

A page has the places, `<!-- settings: NAME -->` to `<!-- end -->`; what lies between is written by

    python -m reporting.settings_tables

and compared by tests/unit/test_settings_tables.py. Keys, defaults, what is allowed and what a key
is all come from the sections' fields; a description is changed there, not in the page.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recommender.config import Section
from recommender.files import atomic_file
from recommender.settings import (
    CompressionConfig,
    DistilStep,
    ExportConfig,
    LearningConfig,
    ProductItemsStep,
    PruneStep,
    QuantiseStep,
    RecoveryConfig,
    SparsifyStep,
)
from recommender.settings.export import TwoStageConfig
from recommender.settings.parity import ParityConfig

DOCS = Path(__file__).resolve().parent.parent / "docs"
_OWN = "[its own](#recovery)"  # of the only section that lies in a table's section
_PLACE = re.compile(r"(<!-- settings: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Table:
    """Keys of sections that have the same ones, a row each.

    Attributes:
        sections: by the heading of their column of defaults; the first has the descriptions.
        keys: which; empty: all but the one that names a step.
        prefix: of keys, where the section lies in another.
    """

    sections: Mapping[str, Section]
    keys: Sequence[str] = ()
    prefix: str = ""

    @classmethod
    def of(cls, section: type[Section], keys: Sequence[str] = (), prefix: str = "") -> "Table":
        """Of one section, with its defaults; what it checks as a whole is not asked."""
        return cls({"default": section.model_construct()}, keys, prefix)

    @property
    def kind(self) -> type[Section]:
        return type(next(iter(self.sections.values())))

    def rows(self) -> Iterator[list[str]]:
        schemas = _schemas(self.kind)
        for key in self.keys or own_keys(self.kind):
            defaults = [_default(getattr(each, key)) for each in self.sections.values()]
            about = schemas[key].get("description", "").replace("|", r"\|")
            yield [f"`{self.prefix}{key}`", *defaults, _allowed(schemas[key]), about]

    def markdown(self) -> str:
        heads = ["key", *self.sections, "allowed", "what it is"]
        rows = "".join(f"| {' | '.join(row)} |\n" for row in self.rows())
        return f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n{rows}"


def own_keys(section: type[Section]) -> list[str]:
    """The keys that say something: not those whose one value names the section in a list."""
    return [key for key, schema in _schemas(section).items() if "const" not in schema]


def changed_keys(section: type[Section], base: type[Section]) -> list[str]:
    """The keys whose default, limits or description are not those of `base`."""
    own, others = _schemas(section), _schemas(base)
    return [key for key in own_keys(section) if own[key] != others.get(key)]


def _default(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Section):
        changed = _changed(value)
        return f"`{_flow(changed)}`, else {_OWN}" if changed else _OWN
    return f"`{_flow(_plain(value))}`"


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return _changed(value)
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _changed(section: Section) -> dict[str, Any]:
    """What a section says that it would not say by itself, and the key that names it."""
    own = own_keys(type(section))
    return {
        key: getattr(section, key)
        for key, field in type(section).model_fields.items()
        if key not in own or getattr(section, key) != field.default
    }


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.removesuffix("...\n").strip()


def _schemas(section: type[Section]) -> dict[str, dict[str, Any]]:
    return section.model_json_schema()["properties"]


def _allowed(schema: Mapping[str, Any]) -> str:
    """In words; that a key without a default may be null goes without saying."""
    if "anyOf" in schema:
        each = [_allowed(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return ", or ".join(each)
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{each}`" for each in values)
    match schema.get("type"):
        case "boolean":
            return "`true`, `false`"
        case "integer":
            return "whole number" + _limits(schema)
        case "number":
            return "number" + _limits(schema)
        case "array":
            return "list"
        case "object" if "additionalProperties" in schema:
            return f"names, each with a {_allowed(schema['additionalProperties'])}"
    return "keys"


def _limits(schema: Mapping[str, Any]) -> str:
    """Like ` above 0, at most 1`; nothing where all are allowed."""
    words = {
        "exclusiveMinimum": "above",
        "minimum": "at least",
        "exclusiveMaximum": "below",
        "maximum": "at most",
    }
    said = [f"{word} {schema[name]:g}" for name, word in words.items() if name in schema]
    return f" {', '.join(said)}" if said else ""


_PARITY = ParityConfig()
TABLES = {
    "steps": Table.of(CompressionConfig, ["steps"]),
    "budgets": Table.of(
        CompressionConfig, [key for key in own_keys(CompressionConfig) if key != "steps"]
    ),
    "prune": Table.of(PruneStep),
    "sparsify": Table.of(SparsifyStep),
    "distil": Table.of(DistilStep, changed_keys(DistilStep, LearningConfig)),
    "learning": Table.of(LearningConfig),
    "recovery": Table.of(RecoveryConfig, changed_keys(RecoveryConfig, LearningConfig)),
    "quantise": Table.of(QuantiseStep),
    "quantise-items": Table.of(ProductItemsStep),
    "export": Table.of(
        ExportConfig,
        [key for key in own_keys(ExportConfig) if key not in ("two_stage", "parity")],
    ),
    "two-stage": Table.of(TwoStageConfig, prefix="two_stage."),
    "parity": Table({link: getattr(_PARITY, link) for link in ParityConfig.model_fields}),
}


def written(page: str) -> str:
    """The page with its tables as they should be. Raises KeyError for a place of no table."""
    return _PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place[2]].markdown()}\n{place[4]}", page)


def pages() -> list[Path]:
    """Those of docs/ that have a place for a table."""
    every = sorted(DOCS.rglob("*.md"))
    return [path for path in every if _PLACE.search(path.read_text(encoding="utf-8"))]


def main() -> None:
    """Write the tables of every page anew."""
    for path in pages():
        page = path.read_text(encoding="utf-8")
        if (now := written(page)) != page:
            with atomic_file(path) as draft:
                draft.write_text(now, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()

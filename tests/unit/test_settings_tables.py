"""The tables of settings in docs/ are those of the code, and none is forgotten."""

import re
from collections.abc import Iterator

import pytest
import yaml

from recommender.compression.check import check_scoring, check_shapes
from recommender.config import Section
from recommender.errors import KuberecError
from recommender.settings import (
    CompressionConfig,
    DistilStep,
    ExportConfig,
    ModelConfig,
    QuantiseStep,
    RecoveryConfig,
)
from recommender.settings.export import TwoStageConfig
from recommender.settings.parity import ParityConfig
from reporting.settings_tables import DOCS, TABLES, Table, own_keys, pages, written

COMPRESSION = (DOCS / "compression.md").read_text(encoding="utf-8")
STEPS = (DOCS / "compression-steps.md").read_text(encoding="utf-8")
EXPORT = (DOCS / "export.md").read_text(encoding="utf-8")


def sections(kind: type[Section]) -> Iterator[type[Section]]:
    """It, and every section that a key of it can hold, at any depth."""
    yield kind
    for field in kind.model_fields.values():
        for found in _within(field.annotation):
            yield from sections(found)


def _within(annotation: object) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _within(part)


def rows(page: str) -> dict[str, list[str]]:
    """Cells of a page's table rows whose first cell is a key, by that key."""
    lines = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", page, re.MULTILINE)
    return {key: cells.split(" | ") for key, cells in lines}


def part(page: str, heading: str) -> str:
    """From a heading to the next one."""
    return re.split(r"^#+ ", page.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_pages_have_what_the_program_writes() -> None:
    assert {"compression.md", "compression-steps.md", "export.md"} <= {p.name for p in pages()}
    for path in pages():
        page = path.read_text(encoding="utf-8")
        assert written(page) == page, f"{path}: write it by python -m reporting.settings_tables"


@pytest.mark.parametrize(("said", "other"), [("`0.01`", "`0.02`"), ("| `max_clipped`", "| `most`")])
def test_a_default_or_a_key_that_is_another_is_seen(said: str, other: str) -> None:
    assert said in STEPS
    assert written(STEPS.replace(said, other)) == STEPS


def test_every_table_has_its_place_once() -> None:
    places = re.findall(r"<!-- settings: (\S+) -->", COMPRESSION + STEPS + EXPORT)
    assert sorted(places) == sorted(TABLES)
    with pytest.raises(KeyError, match="prunes"):
        written("<!-- settings: prunes -->\n<!-- end -->")


@pytest.mark.parametrize("root", [CompressionConfig, ExportConfig])
def test_no_section_is_without_a_table(root: type[Section]) -> None:
    """Every key is in a table, of the section itself or of one that it is built upon."""
    found = list(sections(root))
    assert len(found) > 5
    for section in found:
        keys = {
            key.strip("`").removeprefix(table.prefix)
            for table in TABLES.values()
            if issubclass(section, table.kind)
            for key, *_ in table.rows()
        }
        columns = set(TABLES["parity"].sections) if section is ParityConfig else set()
        nested = {"parity", "two_stage"} if section is ExportConfig else set()
        assert set(own_keys(section)) - nested - columns <= keys, section


def test_every_key_says_what_it_is() -> None:
    assert [row for table in TABLES.values() for row in table.rows() if not row[-1]] == []


def test_defaults_are_read_as_a_person_reads_them() -> None:
    """By the settings themselves, without the program that writes the tables."""
    quantise = rows(part(STEPS, "quantise"))
    assert quantise["max_clipped"][0] == f"`{QuantiseStep().max_clipped}`"
    assert quantise["per_channel"][:2] == ["`true`", "`true`, `false`"]
    assert "learning_rate: 0.0005" in quantise["recovery"][0]
    assert set(rows(part(STEPS, "distil"))) == set(DistilStep.model_fields) - {"step"} - set(
        rows(part(STEPS, "Training"))
    )
    assert rows(part(STEPS, "Recovery"))["epochs"][0] == f"`{RecoveryConfig().epochs}`"
    assert rows(part(STEPS, "sparsify"))["importance"][1] == "`magnitude`, `wanda`"
    parity = rows(part(EXPORT, "Parity"))
    own = ParityConfig()
    limits = [own.onnx, own.served, own.triton, own.tensorrt]
    assert parity["min_overlap"][:4] == [f"`{each.min_overlap}`" for each in limits]
    assert rows(EXPORT)["golden_requests"][0] == f"`{ExportConfig().golden_requests}`"
    assert rows(EXPORT)["two_stage.probes"][0] == f"`{TwoStageConfig().probes}`"


def refused() -> list[str]:
    return re.findall(r"^\| `(\[.*?\])` \|", part(COMPRESSION, "Orders that are refused"), re.M)


@pytest.mark.parametrize("steps", refused())
def test_an_order_that_the_page_calls_refused_is(steps: str) -> None:
    config = CompressionConfig.model_validate({"steps": yaml.safe_load(steps)})
    check_shapes(config.steps[:1], ModelConfig())
    with pytest.raises(KuberecError, match=r"compression\.steps\.1"):
        check_shapes(config.steps, ModelConfig())


def test_what_two_stages_refuse() -> None:
    assert len(refused()) > 5
    two_stages = ExportConfig.model_validate({"scoring": "two-stage"})
    for step in (
        {"step": "quantise-items", "kind": "pq"},
        {"step": "quantise", "precision": "float16"},
    ):
        config = CompressionConfig.model_validate({"steps": [step]})
        check_shapes(config.steps, ModelConfig())
        with pytest.raises(KuberecError, match="two-stage"):
            check_scoring(config.steps, two_stages)


def test_limits_in_words() -> None:
    words = {row[0].strip("`"): row[2] for row in Table.of(DistilStep).rows()}
    assert words["dropout"] == "number at least 0, below 1"
    assert words["backbone"] == "`transformer`, `hstu`"
    assert words["dim"] == "whole number above 0"

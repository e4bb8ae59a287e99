"""Direct identifiers of people are in no text column: e-mail, phone, payment card.

Values are looked at where they lie; what is shown of a finding is masked. Patterns are those of
`gx_ibis.masking`; a card number also has to pass the Luhn check, which is computed for the rows
that the pattern finds, by a function of Python's that the engine calls.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from great_expectations.expectations.expectation import BatchExpectation

from ingestion.validation.gx_ibis import masking
from ingestion.validation.gx_ibis.registry import TABLE_KEYS, aggregate, column_of, value

_SAMPLES = 5
_PATTERNS = {"email": masking.EMAIL, "phone": masking.PHONE, "card": masking.CARD}


@ibis.udf.scalar.pyarrow(signature=(("string",), "boolean"))
def has_card_number(text: Any) -> Any:
    """DuckDB hands over arrays, Spark one text at a time."""
    if isinstance(text, pa.Array | pa.ChunkedArray):
        return pa.array([masking.has_card_number(each) for each in text.to_pylist()], pa.bool_())
    return masking.has_card_number(text)


def text_columns(table: ir.Table) -> list[str]:
    """Columns of texts, and of lists of texts."""
    return [
        name
        for name, dtype in table.schema().items()
        if dtype.is_string() or (dtype.is_array() and dtype.value_type.is_string())
    ]


def _text(table: ir.Table, name: str) -> Any:
    column = column_of(table, name)
    return column.join(" ") if isinstance(column, ir.ArrayValue) else column


def _found(table: ir.Table, columns: list[str], kind: str) -> Any:
    """Whether a row has what looks like it in any of the columns."""
    found: Any = ibis.literal(False)
    for name in columns:
        found = found | _text(table, name).re_search(_PATTERNS[kind]).fill_null(False)
    return found


def _samples(table: ir.Table, columns: list[str], kind: str) -> list[str]:
    """Masked, each with its column."""
    shown = []
    for name in columns:
        texts = table.select(text=_text(table, name))
        texts = texts.filter(texts.text.re_search(_PATTERNS[kind]))
        if kind == "card":
            texts = texts.filter(has_card_number(texts.text))
        rows = texts.distinct().order_by("text").limit(_SAMPLES).to_pyarrow().to_pylist()
        shown += [f"{name}: {_masked(row['text'])}" for row in rows]
    return shown[:_SAMPLES]


def _masked(text: str) -> str:
    """A long text is cut around what was found."""
    text = masking.masked(text)
    at = text.find("…")
    return text if len(text) <= 80 else f"…{text[max(0, at - 30) : at + 40]}…"


def _cards(table: ir.Table, columns: list[str], metrics: Any) -> int:
    if not metrics["table.personal_card.candidates"]:
        return 0
    rows = table.filter(_found(table, columns, "card"))
    checked: Any = ibis.literal(False)
    for name in columns:
        checked = checked | has_card_number(_text(rows, name)).fill_null(False)
    rows = rows.select(checked=checked)
    return int(rows.checked.sum().fill_null(0).to_pyarrow().as_py())


def _register(kind: str) -> None:
    counts, values = f"table.personal_{kind}.count", f"table.personal_{kind}.values"

    def count(table: ir.Table, columns: list[str]) -> ir.Scalar:
        return _found(table, columns, kind).sum().fill_null(0)

    def samples(table: ir.Table, columns: list[str], metrics: Any) -> list[str]:
        return _samples(table, columns, kind) if metrics[counts] else []

    if kind == "card":
        candidates = "table.personal_card.candidates"
        aggregate(candidates, count, TABLE_KEYS, ("columns",))
        value(counts, _cards, TABLE_KEYS, ("columns",), needs=(candidates,))
    else:
        aggregate(counts, count, TABLE_KEYS, ("columns",))
    value(values, samples, TABLE_KEYS, ("columns",), needs=(counts,))


for _kind in _PATTERNS:
    _register(_kind)


class _NoIdentifier(BatchExpectation):
    columns: list[str]

    success_keys: ClassVar[tuple[str, ...]] = ("columns",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: Any = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        counts, values, rows = self.metric_dependencies
        result = {
            "element_count": metrics[rows],
            "unexpected_count": metrics[counts],
            "partial_unexpected_list": metrics[values],
        }
        return {"success": not metrics[counts], "result": result}


def _needs(kind: str) -> tuple[str, ...]:
    return f"table.personal_{kind}.count", f"table.personal_{kind}.values", "table.row_count"


class ExpectColumnsToContainNoEmailAddresses(_NoIdentifier):
    """No text column holds an e-mail address."""

    metric_dependencies: ClassVar[tuple[str, ...]] = _needs("email")


class ExpectColumnsToContainNoPhoneNumbers(_NoIdentifier):
    """No text column holds a phone number."""

    metric_dependencies: ClassVar[tuple[str, ...]] = _needs("phone")


class ExpectColumnsToContainNoCardNumbers(_NoIdentifier):
    """No text column holds the number of a payment card."""

    metric_dependencies: ClassVar[tuple[str, ...]] = _needs("card")


EXPECTATIONS: dict[str, Callable[..., Any]] = {
    "email": ExpectColumnsToContainNoEmailAddresses,
    "phone": ExpectColumnsToContainNoPhoneNumbers,
    "card": ExpectColumnsToContainNoCardNumbers,
}

"""Great Expectations on Ibis: what its own pandas engine says, by one query a table."""

from datetime import datetime
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest

from recommender.files import write_json

NOON = datetime(2024, 5, 1, 12)
ROWS = {
    "name": ["ann", "bob", "bob", "", None, "Zoë", "jane.doe@example.com"],
    "size": [1.0, 2.0, 2.0, 9.5, None, -3.0, 4.0],
    "place": [1, 2, 2, 3, 4, 5, 6],
    "at": [NOON.replace(hour=hour) for hour in range(7)],
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of the same suite on pandas and on Ibis, and the number of Ibis's queries."""
    folder = tmp_path_factory.mktemp("gx")
    import great_expectations as gx
    from great_expectations import expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    from ingestion.validation.gx_ibis.datasource import IbisDatasource  # noqa: F401

    expectations = [
        gxe.ExpectTableRowCountToBeBetween(min_value=10),
        gxe.ExpectTableColumnCountToEqual(value=4),
        gxe.ExpectColumnToExist(column="size"),
        gxe.ExpectColumnToExist(column="weight"),
        gxe.ExpectColumnValuesToNotBeNull(column="name"),
        gxe.ExpectColumnValuesToBeNull(column="name"),
        gxe.ExpectColumnValuesToBeUnique(column="name"),
        gxe.ExpectColumnValuesToBeBetween(column="size", min_value=0, max_value=4),
        gxe.ExpectColumnValuesToBeBetween(column="size", max_value=4, strict_max=True),
        gxe.ExpectColumnValuesToBeBetween(
            column="size",
            max_value=1,
            row_condition=(Column("name") == "bob") | (Column("place") > 5),
        ),
        gxe.ExpectColumnValueLengthsToBeBetween(column="name", min_value=1, max_value=3),
        gxe.ExpectColumnValuesToBeInSet(column="name", value_set=["ann", "bob", ""], mostly=0.6),
        gxe.ExpectColumnValuesToNotBeInSet(column="place", value_set=[2, 7]),
        gxe.ExpectColumnValuesToBeInSet(column="name", value_set=["ann", None]),
        gxe.ExpectColumnValuesToNotBeInSet(column="place", value_set=[77, None]),
        gxe.ExpectColumnValuesToMatchRegex(column="name", regex="^[a-z]+$"),
        gxe.ExpectColumnValuesToNotMatchRegex(column="name", regex="o"),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["name", "size", "place"]),
        gxe.ExpectColumnMinToBeBetween(column="at", min_value=NOON.replace(hour=1)),
        gxe.ExpectColumnMaxToBeBetween(column="size", max_value=9.5),
        gxe.ExpectColumnMeanToBeBetween(column="size", min_value=2.5, max_value=2.6),
        gxe.ExpectColumnSumToBeBetween(column="place", min_value=23, max_value=23),
        gxe.ExpectColumnStdevToBeBetween(column="size", min_value=4.0, max_value=4.1),
        gxe.ExpectColumnUniqueValueCountToBeBetween(column="place", max_value=5),
    ]
    context = gx.get_context(mode="file", project_root_dir=folder)
    suite = context.suites.add(gx.ExpectationSuite(name="rows", expectations=expectations))
    frame = pd.DataFrame(ROWS)
    frame.to_parquet(folder / "rows.parquet")
    table = ibis.duckdb.connect().read_parquet(folder / "rows.parquet")
    source = context.data_sources.add_ibis("on ibis")
    asset = context.data_sources.add_pandas("on pandas").add_dataframe_asset("rows")
    batches = {
        "ibis": (source.asset("rows", table).add_batch_definition("rows"), None),
        "pandas": (asset.add_batch_definition_whole_dataframe("rows"), {"dataframe": frame}),
    }
    results: dict[str, Any] = {}
    for name, (batch, parameters) in batches.items():
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=batch, suite=suite)
        )
        run = definition.run(batch_parameters=parameters, result_format="BASIC")
        results[name] = {
            f"{each.expectation_config.type} {each.expectation_config.kwargs}": each
            for each in run.results
        }
    return results | {"queries": source.get_execution_engine().queries, "source": source}


def test_it_says_what_pandas_says(found: dict[str, Any]) -> None:
    assert len(found["pandas"]) == 24
    for kwargs, pandas in found["pandas"].items():
        ibis_ = found["ibis"][kwargs.replace("on pandas", "on ibis")]
        assert not pandas.exception_info["raised_exception"], kwargs
        assert ibis_.success == pandas.success, kwargs
        for key in ("observed_value", "unexpected_count", "missing_count", "element_count"):
            expected = pandas.result.get(key)
            if isinstance(expected, float):
                expected = pytest.approx(expected)
            assert ibis_.result.get(key) == expected, (kwargs, key)


def test_values_that_break_a_rule_are_different_ones_and_masked(found: dict[str, Any]) -> None:
    shown = [each.result.get("partial_unexpected_list") for each in found["ibis"].values()]
    assert ["bob"] in shown  # twice in the table, once here
    assert any("j…m (20 characters)" in values for values in shown if values)
    assert not any("jane" in str(values) for values in shown)


def test_all_numbers_of_a_table_come_of_one_query(found: dict[str, Any]) -> None:
    # The row condition makes a second table of it.
    assert found["queries"] == 2


def test_a_cut_project_is_begun_anew(tmp_path: Path) -> None:
    from ingestion.validation.project import Project

    (tmp_path / "gx").mkdir()
    (tmp_path / "gx" / "great_expectations.yml").write_text("data_context_id: [half a")
    write_json(tmp_path / "accepted.json", {})
    assert Project(tmp_path).folder == tmp_path
    assert (tmp_path / "accepted.json").is_file()

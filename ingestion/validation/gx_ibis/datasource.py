"""A data source of Great Expectations whose assets are Ibis tables.

The project's files hold the assets' names only; the tables themselves are in `engine.TABLES`.
"""

from typing import Any, ClassVar, Literal

import ibis.expr.types as ir
from great_expectations.core import IDDict
from great_expectations.core.batch import LegacyBatchDefinition
from great_expectations.core.batch_spec import RuntimeDataBatchSpec
from great_expectations.datasource.fluent import BatchRequest
from great_expectations.datasource.fluent.batch_identifier_util import make_batch_identifier
from great_expectations.datasource.fluent.constants import _DATA_CONNECTOR_NAME
from great_expectations.datasource.fluent.interfaces import Batch, DataAsset, Datasource

from ingestion.validation.gx_ibis import metrics  # noqa: F401  # registers them
from ingestion.validation.gx_ibis.engine import TABLES, IbisExecutionEngine


class IbisAsset(DataAsset):
    type: Literal["ibis_table"] = "ibis_table"

    def test_connection(self) -> None: ...

    def get_batch_parameters_keys(self, partitioner: Any = None) -> tuple[str, ...]:
        return ()

    def build_batch_request(
        self, options: Any = None, batch_slice: Any = None, partitioner: Any = None
    ) -> BatchRequest:
        return BatchRequest(
            datasource_name=self.datasource.name, data_asset_name=self.name, options={}
        )

    def _validate_batch_request(self, batch_request: BatchRequest) -> None: ...

    def get_batch_identifiers_list(self, batch_request: BatchRequest) -> list[dict[str, Any]]:
        return [IDDict(batch_request.options)]

    def get_batch(self, batch_request: BatchRequest) -> Batch:
        spec = RuntimeDataBatchSpec(batch_data=TABLES[self.datasource.name, self.name])
        data, markers = self.datasource.get_execution_engine().get_batch_data_and_markers(spec)
        # What is written down of a batch has no use for the expression.
        spec["batch_data"] = "an Ibis table"
        return Batch(
            datasource=self.datasource,
            data_asset=self,
            batch_request=batch_request,
            data=data,
            metadata=self._get_batch_metadata_from_batch_request(batch_request=batch_request),
            batch_markers=markers,
            batch_spec=spec,
            batch_definition=LegacyBatchDefinition(
                datasource_name=self.datasource.name,
                data_connector_name=_DATA_CONNECTOR_NAME,
                data_asset_name=self.name,
                batch_identifiers=make_batch_identifier(batch_request.options),
                batch_spec_passthrough=None,
            ),
        )


class IbisDatasource(Datasource):
    asset_types: ClassVar[list[type[DataAsset]]] = [IbisAsset]
    type: Literal["ibis"] = "ibis"
    assets: list[IbisAsset] = []  # noqa: RUF012  # a field

    @property
    def execution_engine_type(self) -> Any:
        return IbisExecutionEngine

    def test_connection(self, test_assets: bool = True) -> None: ...

    def asset(self, name: str, table: ir.Table) -> IbisAsset:
        """The asset of that name, new or as it was in an earlier run, with this table."""
        TABLES[self.name, name] = table
        known = [asset for asset in self.assets if asset.name == name]
        return known[0] if known else self._add_asset(IbisAsset(name=name))

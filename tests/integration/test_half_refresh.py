"""New items join a version whose ranker is in float16, on CPUs and on GPUs."""

from pathlib import Path

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from genre_version import TEXT, title, write_genre_version

from recommender.files import sha256_file
from recommender.ranker_rows import table_size
from recommender.settings import TextConfig
from recommender.text import encode_items
from serving.refresh import known_items, refresh_version
from serving.triton.engine.plan import plan_engine
from serving.triton.repository import GPU_GRAPH, graph_path
from serving.version import load_version

pytestmark = pytest.mark.timeout(300)
NEW = {"n-space": title("space", 100), "n-sea": title("sea", 101)}


def test_a_float16_version_gets_new_items_and_stays_one(tmp_path: Path) -> None:
    parent = load_version(write_genre_version(tmp_path, half=True))
    columns = {"item_id": list(NEW), "title": list(NEW.values()), "text": list(NEW.values())}
    empty = pa.array([[]] * len(NEW), pa.list_(pa.string()))
    (tmp_path / "new").mkdir()
    pq.write_table(pa.table(columns | {"categories": empty}), tmp_path / "new/items.parquet")
    encode_items(
        tmp_path / "new",
        TextConfig.model_validate(TEXT),
        tmp_path / "cache",
        tmp_path / "vectors of the new",
        fitted_dir=parent.directory,
    )
    refresh_version(tmp_path / "refreshed", parent, tmp_path / "vectors of the new")
    version = load_version(tmp_path / "refreshed")
    assert known_items(version) == [*known_items(parent), *NEW]
    served, for_gpus = (
        graph_path(version.directory, "ranker", name) for name in ("model.onnx", GPU_GRAPH)
    )
    assert sha256_file(served) == sha256_file(for_gpus)
    assert table_size(served)[0] == len(known_items(version))
    weights = onnx.load(str(served)).graph.initializer
    assert onnx.TensorProto.FLOAT16 in {each.data_type for each in weights}
    assert plan_engine(version).precision == "fp16"
    # No row says that float32 was compared: there is none.
    assert not [row for row in (version.model_extra or {})["parity"] if "FP32" in row["from"]]

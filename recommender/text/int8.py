"""A text encoder in INT8, by ONNX Runtime's dynamic quantiser.

Matrix products are of 8-bit activations, whose range is each text's own, and 7-bit weights, one
scale a column; word embeddings are bytes too. Texts are read one at a time: a range of a batch
would make a text's vector depend on its neighbours (measured on MiniLM: numbers of a vector up to
0.02 apart), and vectors are kept by their text alone.
"""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from recommender.errors import KuberecError
from recommender.onnx_session import open_session

SCHEME = "int8: dynamic by ONNX Runtime, a text at a time, 7-bit weights a column"
OPSET = 17
_INPUTS = ("input_ids", "attention_mask")


class Int8Encoder:
    """What `encoder`, a transformers model, becomes: called as it is, of one text at a time.

    Raises:
        KuberecError: the encoder cannot be written as an ONNX graph.
    """

    def __init__(self, encoder: Any, name: str) -> None:
        self.config = encoder.config
        with tempfile.TemporaryDirectory(prefix="encoder-") as folder:
            exact, int8 = Path(folder) / "exact.onnx", Path(folder) / "int8.onnx"
            _write_graph(encoder, exact, name)
            _quantise(exact, int8)
            self.bytes = int8.stat().st_size
            # As many threads as torch would take: integers add up to the same in any order.
            self._session = open_session(int8, torch.get_num_threads())

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Any:
        """An object with `last_hidden_state`, float32 [1, L, D]; tokens int64 [1, L]."""
        given = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        (hidden_BLD,) = self._session.run(None, given)
        return SimpleNamespace(last_hidden_state=torch.from_numpy(hidden_BLD))


class _Hidden(nn.Module):
    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _write_graph(encoder: Any, path: Path, name: str) -> None:
    import warnings

    example = torch.ones(2, 4, dtype=torch.int64), torch.ones(2, 4, dtype=torch.int64)
    axes = {each: {0: "batch", 1: "length"} for each in (*_INPUTS, "hidden")}
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # tracer and deprecation notes, nothing for the user
            torch.onnx.export(
                _Hidden(encoder),
                example,
                str(path),
                input_names=list(_INPUTS),
                output_names=["hidden"],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        raise KuberecError(
            f"text.precision: int8: the encoder '{name}' cannot be written as an ONNX graph "
            f"({str(error).strip().splitlines()[0][:300]}): set text.precision: float32"
        ) from error


def _quantise(source: Path, target: Path) -> None:
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a shape inference that changes nothing here
    try:
        quantize_dynamic(
            str(source),
            str(target),
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=True,  # 7 bits: the same numbers on processors without VNNI too
            weight_type=QuantType.QInt8,
        )
    finally:
        root.setLevel(level)

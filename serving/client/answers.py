"""The protocol's response to typed answers, one a row of the request."""

from typing import Any, NamedTuple

import numpy as np
from tritonclient.utils import deserialize_bytes_tensor

from recommender.schema import MASKED_SCORE

# A bare Triton names the version folder of its repository, which says nothing about the model.
_TRITONS_OWN_VERSION = "1"


class Recommendations(NamedTuple):
    """One user's answer, best first."""

    item_ids: list[str]
    scores: list[float]
    version: str | None = None  # the model version that answered; None: a bare Triton
    # Where the history came from (docs/guides/clients.md lists them): "ok", "given", "unknown",
    # "stale", "fallback_timeout", ...; None: a bare Triton.
    feature_status: str | None = None
    feature_age_s: float | None = None  # of the stored row that was used; None: none was
    request_id: str | None = None  # as sent


def read_answers(response: Any, version_header: str | None) -> list[Recommendations]:
    """The rows of a ModelInferResponse, without the padding of short answers.

    Args:
        version_header: what a gateway says of the version, used where the response does not.

    Raises:
        ValueError: the response is not that of a `recommend` model.
    """
    tensors = {
        output.name: _tensor(response, index) for index, output in enumerate(response.outputs)
    }
    if not {"item_ids", "scores"} <= tensors.keys():
        raise ValueError(f"item_ids and scores are not among its tensors {sorted(tensors)}")
    version = response.model_version
    named = version if version not in ("", _TRITONS_OWN_VERSION) else version_header
    statuses, ages = tensors.get("feature_status"), tensors.get("feature_age_seconds")
    answers = []
    for row, (ids, scores) in enumerate(zip(tensors["item_ids"], tensors["scores"], strict=True)):
        kept = [
            (item.decode(), float(score))
            for item, score in zip(ids, scores, strict=True)
            if item and score > MASKED_SCORE
        ]
        age = -1.0 if ages is None else float(ages.reshape(-1)[row])
        answers.append(
            Recommendations(
                item_ids=[item for item, _ in kept],
                scores=[score for _, score in kept],
                version=named or None,
                feature_status=None if statuses is None else statuses.reshape(-1)[row].decode(),
                feature_age_s=age if age >= 0 else None,
                request_id=response.id or None,
            )
        )
    return answers


_RAW = {"FP32": "<f4", "FP64": "<f8"}
_TYPED = {"FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}


def _tensor(response: Any, index: int) -> np.ndarray:
    """Output `index`, from raw contents or from typed ones: a server may send either."""
    output = response.outputs[index]
    shape = tuple(output.shape)
    if output.datatype not in _TYPED:
        raise ValueError(f"'{output.name}' is of type {output.datatype}")
    if not response.raw_output_contents:
        dtype = _RAW.get(output.datatype, object)
        values = list(getattr(output.contents, _TYPED[output.datatype]))
        return np.array(values, dtype=dtype).reshape(shape)
    raw = response.raw_output_contents[index]
    if output.datatype == "BYTES":
        return deserialize_bytes_tensor(raw).reshape(shape)
    return np.frombuffer(raw, dtype=_RAW[output.datatype]).reshape(shape)

"""Do two ways of answering agree? ONNX Runtime in this process, and Triton over gRPC and HTTP."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recommender.files import read_json
from recommender.onnx_session import open_session
from recommender.string_graphs import HISTORY_TIMES
from serving.triton.repository import EMBEDDED, GPU_GRAPH, GRAPH, STAGES, graph_path
from serving.version import GOLDEN, GoldenAnswer, GoldenRequest

Request = Mapping[str, Any]


def golden_answers(repository: Path, requests: Sequence[Request]) -> list[GoldenRequest]:
    """Answer requests ({history, exclude}) with the graphs of a model repository.

    Twice, where it has a ranker of its own for GPUs (`GoldenRequest.gpu`): servers of either kind
    are held to the answers of the graph that they run. `history_times` of a request are for
    versions that read times; where they lack, none is known.
    """
    answers = _answers(repository, GRAPH, requests)
    own = graph_path(repository, "ranker", GPU_GRAPH)
    on_gpu = _answers(repository, GPU_GRAPH, requests) if own.is_file() else [None] * len(requests)
    return [
        GoldenRequest(
            history=list(request["history"]),
            exclude=list(request.get("exclude") or []),
            history_times=list(request.get(HISTORY_TIMES) or []),
            **answer.model_dump(),
            gpu=other,
        )
        for request, answer, other in zip(requests, answers, on_gpu, strict=True)
    ]


def _answers(repository: Path, ranker: str, requests: Sequence[Request]) -> list[GoldenAnswer]:
    """By one of the repository's rankers, `GRAPH` or `GPU_GRAPH`, one request at a time."""
    lookup, decode = (open_session(graph_path(repository, name)) for name in ("lookup", "decode"))
    session = open_session(graph_path(repository, "ranker", ranker))
    answers = []
    for request in requests:
        indices, scores = session.run(["item_indices", "scores"], look_up(lookup, request))
        (item_ids,) = decode.run(["item_ids"], {"item_indices": indices})
        answers.append(GoldenAnswer(item_ids=item_ids[0].tolist(), scores=scores[0].tolist()))
    return answers


def look_up(lookup: Any, request: Request) -> dict[str, np.ndarray]:
    """The ranker's inputs for one request, by a session of the lookup graph."""
    given = {name: _row(list(request.get(name) or [])) for name in ("history", "exclude")}
    if times := request.get(HISTORY_TIMES):
        given[HISTORY_TIMES] = np.array([times], dtype=np.int64)
    names = [output.name for output in lookup.get_outputs()]
    return dict(zip(names, lookup.run(names, given), strict=True))


def triton_answers(
    url: str,
    requests: Sequence[Request],
    protocol: str = "grpc",
    timeout_s: float = 30.0,
    *,
    host: str | None = None,
    headers: Mapping[str, str] | None = None,
    tls: bool = False,
) -> list[GoldenRequest]:
    """Answer requests with the `recommend` model at host:port; protocol "grpc" or "http".

    `exclude` is left out of a request where it is empty, as a client would.

    Args:
        host: the endpoint's name, where `url` is a gateway's address.
        headers: sent along, such as an API key.
        tls: whether `url` speaks it.
    """
    client_module = importlib.import_module(f"tritonclient.{protocol}")
    limits: dict[str, Any] = {"ssl": True} if tls else {}
    call: dict[str, Any] = {"headers": {k.lower(): v for k, v in (headers or {}).items()}}
    if protocol == "grpc":
        call["client_timeout"] = timeout_s
        if host:
            limits["channel_args"] = [
                ("grpc.default_authority", host),
                ("grpc.max_receive_message_length", -1),
            ]
    else:
        limits |= {"connection_timeout": timeout_s, "network_timeout": timeout_s}
        if host:
            call["headers"]["host"] = host
        if host and tls:  # the name that the certificate has to have
            limits["ssl_options"] = {"server_hostname": host.partition(":")[0]}
    answers = []
    with client_module.InferenceServerClient(url, **limits) as client:
        for request in requests:
            inputs = []
            for name in ("history", "exclude"):
                ids = list(request.get(name) or [])
                if ids or name == "history":
                    tensor = client_module.InferInput(name, [1, len(ids)], "BYTES")
                    tensor.set_data_from_numpy(_row(ids))
                    inputs.append(tensor)
            if times := list(request.get(HISTORY_TIMES) or []):
                tensor = client_module.InferInput(HISTORY_TIMES, [1, len(times)], "INT64")
                tensor.set_data_from_numpy(np.array([times], dtype=np.int64))
                inputs.append(tensor)
            result = client.infer("recommend", inputs, **call)
            answers.append(
                GoldenRequest(
                    history=list(request["history"]),
                    exclude=list(request.get("exclude") or []),
                    history_times=list(request.get(HISTORY_TIMES) or []),
                    item_ids=[item.decode() for item in result.as_numpy("item_ids")[0]],
                    scores=result.as_numpy("scores")[0].tolist(),
                )
            )
    return answers


def check_on_triton(
    repository: Path,
    workdir: Path,
    golden: Sequence[GoldenRequest] | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Replay golden requests on both of a model repository's forms, each on a Triton of its own.

    The ensemble is what the full image runs, over gRPC and HTTP; "one process" is what the embedded
    server serves with.

    Args:
        workdir: for the servers' files and logs.
        golden: requests with answers; by default the repository's own golden.json.

    Returns:
        {"grpc": ..., "http": ..., "one process": ...}, each as `parity` gives it.
    """
    if golden is None:
        stored = read_json(Path(repository) / GOLDEN)
        golden = [GoldenRequest.model_validate(each) for each in stored]
    found = answers_of_triton(repository, workdir, golden, progress)
    return {way: parity(golden, answers) for way, answers in found.items()}


def answers_of_triton(
    repository: Path,
    workdir: Path,
    golden: Sequence[GoldenRequest],
    progress: Callable[[str], None] | None = None,
) -> dict[str, list[GoldenRequest]]:
    """The answers to golden requests by each way that `check_on_triton` tries."""
    from serving.triton.server import temporary_triton

    requests = [each.model_dump() for each in golden]
    found = {}
    for variant, ways in (
        (STAGES, {"grpc": "grpc", "http": "http"}),
        (EMBEDDED, {"one process": "grpc"}),
    ):
        with temporary_triton(repository, workdir / variant, progress, variant) as server:
            urls = {"grpc": server.grpc_url, "http": server.http_url}
            for way, protocol in ways.items():
                found[way] = triton_answers(urls[protocol], requests, protocol)
    return found


def parity(expected: Sequence[GoldenRequest], actual: Sequence[GoldenRequest]) -> dict[str, float]:
    """How far two lists of answers to the same requests are from each other.

    Returns:
        requests, max_abs_score_diff (rank by rank, so that tied items may swap), and
        mean_overlap and min_overlap, the share of the top K items in common, 0..1.
    """
    if len(expected) != len(actual) or not expected:
        raise ValueError(f"{len(expected)} answers cannot be compared with {len(actual)}")
    overlaps, differences = [], []
    for one, other in zip(expected, actual, strict=True):
        shared = set(one.item_ids) & set(other.item_ids)
        overlaps.append(len(shared) / max(len(set(one.item_ids)), len(set(other.item_ids)), 1))
        if len(one.scores) != len(other.scores):
            differences.append(float("inf"))
        else:
            a, b = np.asarray(one.scores), np.asarray(other.scores)
            differences.append(float(np.abs(np.where(a == b, 0.0, a - b)).max(initial=0.0)))
    return {
        "requests": float(len(expected)),
        "max_abs_score_diff": max(differences),
        "mean_overlap": float(np.mean(overlaps)),
        "min_overlap": min(overlaps),
    }


def _row(ids: Sequence[str]) -> np.ndarray:
    return np.array(ids, dtype=object).reshape(1, len(ids))

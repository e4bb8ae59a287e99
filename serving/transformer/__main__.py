"""The transformer of one pod: `python -m serving.transformer --help`.

Takes the arguments that KServe gives a collocated transformer, and a few of its own.
"""

import argparse
import asyncio
import gc
import logging
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from kserve.constants.constants import MAX_GRPC_MESSAGE_LENGTH
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane

from recommender.errors import KuberecError
from recommender.files import read_json
from serving.settings import TransformerConfig
from serving.transformer import metrics
from serving.transformer.admission import Admission
from serving.transformer.answer import Answerer
from serving.transformer.features import FeatureSource
from serving.transformer.grpc_server import create_server
from serving.transformer.http_server import HttpServer, serve_all
from serving.transformer.model import RecommendModel
from serving.transformer.predictor import Predictor
from serving.transformer.request import Limits
from serving.transformer.request_log.log import open_log
from serving.transformer.rest import create_app
from serving.transformer.sample import RequestSample
from serving.transformer.side_door import create_side_door
from serving.transformer.tracing import Tracing
from serving.version import VersionError, load_version

log = logging.getLogger("kuberec.transformer")
_GRACE_S = 20.0


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.transformer", description=__doc__)
    add = parser.add_argument
    add("--model_name", default="recommend", help="name on the wire and of Triton's ensemble")
    add("--host", default="0.0.0.0", help="address to listen on (default: all)")
    add("--http_port", type=int, default=8080, help="REST and /metrics (default: %(default)s)")
    add("--grpc_port", type=int, default=9000, help="gRPC (default: %(default)s)")
    add(
        "--side_port",
        type=int,
        metavar="PORT",
        help="side door, for rollouts alone: keep it from clients (default: none)",
    )
    add("--predictor_host", required=True, metavar="HOST:PORT", help="Triton's gRPC")
    add("--predictor_protocol", default="grpc-v2", choices=["grpc-v2"], help="as KServe names it")
    add(
        "--enable_predictor_health_check",
        action="store_true",
        help="ready only while Triton answers a request",
    )
    add("--model_dir", type=Path, default=Path("/mnt/models"), help="the model version's folder")
    add(
        "--feature_store",
        type=Path,
        required=True,
        help="a feature_store.yaml, or the folder of an embedded store",
    )
    add("--settings", type=Path, help="JSON or YAML file: the config section serving.transformer")
    return parser.parse_args(given)


async def serve(args: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished."""
    version = load_version(args.model_dir)  # in a pod nobody has looked at these files before
    settings = read_settings(args.settings)
    metrics.name_model(version.version)
    tracing = Tracing({"kuberec.model": args.model_name, "kuberec.version": version.version})
    limits = Limits(
        read_max_batch_size(args.model_dir, args.model_name), version.k, settings.max_ids
    )
    request_log = open_log(settings.request_log, version.version, args.feature_store)
    with_times = request_log.on or version.times
    features = FeatureSource(
        settings, lambda: _open_reader(args.feature_store, version.version, with_times)
    )
    predictor = Predictor(
        args.predictor_host,
        args.model_name,
        settings.predictor_timeout_s,
        settings.predictor_concurrency,
        limits.max_rows,
    )
    # Nobody can ask for it where there is no side door.
    sample = RequestSample(
        settings.sampled_requests if args.side_port else 0, settings.sampled_for_s
    )
    model = RecommendModel(
        args.model_name,
        version.version,
        limits,
        features,
        predictor,
        tracing,
        Admission(settings.max_rows_in_flight),
        sample,
        request_log,
        args.enable_predictor_health_check,
        version.times,
    )
    repository = ModelRepository()
    repository.update(model)
    dataplane = _DataPlane(repository, model)
    answerer = Answerer(dataplane, version.version, tracing)
    await model.start_parts()
    # What was imported stays. Looking through it for garbage again and again made the p99 with 64
    # requests in flight 164 instead of 94 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    address = f"{args.host}:{args.grpc_port}"
    grpc_server = create_server(dataplane, answerer, address, MAX_GRPC_MESSAGE_LENGTH)
    await grpc_server.start()
    rest = create_app(dataplane, answerer, MAX_GRPC_MESSAGE_LENGTH)
    servers = [HttpServer(rest, args.host, args.http_port, _GRACE_S)]
    if args.side_port:
        side_door = create_side_door(answerer, sample, MAX_GRPC_MESSAGE_LENGTH)
        # Before the REST port, by which others see that this process is ready.
        servers.insert(0, HttpServer(side_door, args.host, args.side_port, _GRACE_S))

    def stop() -> None:
        for server in servers:
            server.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    log.info("model version %s: REST %s, gRPC %s", version.version, args.http_port, args.grpc_port)
    await serve_all(servers)
    await grpc_server.stop(_GRACE_S)
    await model.stop_parts()
    tracing.close()


class _DataPlane(DataPlane):
    """kserve's, ready when its one model answers; kserve takes Triton's own word for it."""

    def __init__(self, repository: ModelRepository, model: RecommendModel) -> None:
        super().__init__(model_registry=repository)
        self._model = model

    def metadata(self) -> dict[str, Any]:
        # kserve names the extension that loads and unloads models, which is not offered here.
        return super().metadata() | {"extensions": []}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        return await super().model_metadata(model_name) | {"versions": [self._model.version]}

    async def ready(self) -> bool:
        return await self._model.answers()

    async def model_ready(
        self, model_name: str, disable_predictor_health_check: bool = False
    ) -> bool:
        self.get_model_from_registry(model_name)
        return await self._model.answers()


def _open_reader(store: Path, version: str, with_times: bool):  # type: ignore[no-untyped-def]
    from feature_repo.online.reader import OnlineReader
    from feature_repo.store import service_name

    return OnlineReader(store, service_name(version), with_times)


def read_settings(path: Path | None) -> TransformerConfig:
    """The section in a JSON or YAML file, or the defaults."""
    if path is None:
        return TransformerConfig()
    if path.suffix == ".json":
        return TransformerConfig.model_validate(read_json(path))
    import yaml

    return TransformerConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})


def read_max_batch_size(model_dir: Path, name: str) -> int:
    """Most rows of a request, as the ensemble's config.pbtxt says.

    Raises:
        VersionError: there is no such line.
    """
    path = model_dir / name / "config.pbtxt"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = re.search(r"^max_batch_size:\s*(\d+)", text, re.MULTILINE)
    if found is None:
        raise VersionError(f"'{path}' names no max_batch_size: is --model_name right?")
    return int(found[1])


def main() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # It warns of everything sent to its port that is no HTTP, as often as that is sent.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    args = arguments()
    try:
        uvloop.run(serve(args))
    except KuberecError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

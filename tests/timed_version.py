"""A model version that reads times of events, in miniature: an untrained model, exported."""

from pathlib import Path

from recommender_data import TINY, random_model, vocabulary

from recommender.export import export_ranker
from recommender.model import SequentialRecommender
from recommender.string_graphs import build_decode, build_lookup
from serving.parity import golden_answers
from serving.triton.repository import write_repository
from serving.version import write_manifest

MAX_SEEN, K = 24, 5
DAY, NOW = 86_400, 1_700_000_000
ITEMS = ["i03", "gone", "i11", "i07"]
# Of one history: close together, far apart, and not known.
TIMES = {
    "close": [NOW, NOW + 3, NOW + 60, NOW + 61],
    "apart": [NOW, NOW + DAY, NOW + 60 * DAY, NOW + 400 * DAY],
    "unknown": [],
}
REQUESTS = [
    {"history": ITEMS, "exclude": [], "history_times": TIMES["apart"]},
    {"history": ITEMS, "exclude": ["i20"], "history_times": TIMES["close"]},
    {"history": ITEMS, "exclude": []},
    {"history": [], "exclude": ["i01"]},
]


def timed_model() -> SequentialRecommender:
    return random_model(TINY.model_copy(update={"time": "gaps"}))


def write_timed_version(directory: Path, version: str) -> Path:
    graphs = directory.parent / f"{directory.name}-graphs"
    graphs.mkdir(parents=True)
    lookup, ranker, decode = (graphs / f"{name}.onnx" for name in ("lookup", "ranker", "decode"))
    built = build_lookup(vocabulary(), TINY.max_length, MAX_SEEN, times=True)
    lookup.write_bytes(built.SerializeToString())
    export_ranker(timed_model(), ranker, K, MAX_SEEN)
    decode.write_bytes(build_decode(vocabulary(), K).SerializeToString())
    write_repository(directory, lookup, ranker, decode)
    write_manifest(directory, version, golden_answers(directory, REQUESTS), {"config": {}})
    return directory

"""What a team would write instead: FastAPI, torch and Feast's SDK in one process.

    python -m benchmarks.peer --model STUDENT --feature_store FOLDER --version ID --port 8001

Written as well as one would: the item table is computed once, inference mode, the FeatureService
resolved once, uvloop and httptools in uvicorn, no access log; and each request worked off in the
event loop with one thread of torch, which is a third faster here than FastAPI's pool of threads.
The answer is that of the endpoint: K unseen items and their scores.
"""

import argparse
from pathlib import Path
from typing import Any

from pydantic import BaseModel


class Ask(BaseModel):
    """The body of POST /recommend."""

    user_id: str


def create_app(model_dir: Path, feature_store: Path, version: str, k: int) -> Any:
    """The application; everything is loaded before it answers."""
    from fastapi import FastAPI

    from feature_repo.store import open_store, service_name

    store = open_store(feature_store)
    service = store.get_feature_service(service_name(version))

    import torch

    from recommender.export import Ranker
    from recommender.model import load_model
    from recommender.sequences import Vocabulary

    torch.set_num_threads(1)
    model = load_model(model_dir)
    ranker = Ranker(model, k).eval()
    vocabulary = Vocabulary.load(model_dir / "vocabulary.json")
    length = model.config.max_length

    def features(user: str) -> list[str]:
        rows = store.get_online_features(service, [{"user_id": user}]).to_dict()
        return rows["history"][0] or []

    def rank(history: list[str]) -> tuple[list[str], list[float]]:
        known = vocabulary.encode(history).tolist()
        latest = known[-length:]
        padded = [0] * (length - len(latest)) + latest
        with torch.inference_mode():
            indices, scores = ranker(torch.tensor([padded]), torch.tensor([known or [0]]))
        return [vocabulary.items[i - 1] for i in indices[0].tolist() if i], scores[0].tolist()

    app = FastAPI()

    @app.post("/recommend")
    async def recommend(ask: Ask) -> dict[str, Any]:
        items, scores = rank(features(ask.user_id))
        return {"item_ids": items, "scores": scores[: len(items)]}

    @app.get("/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    rank([])  # the first run of torch is slow
    return app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of model.safetensors")
    parser.add_argument("--feature_store", type=Path, required=True)
    parser.add_argument("--version", required=True, help="whose FeatureService is read")
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--port", type=int, default=8001)
    args = parser.parse_args()

    import uvicorn

    app = create_app(args.model, args.feature_store, args.version, args.k)
    uvicorn.run(
        app, host="127.0.0.1", port=args.port, loop="uvloop", http="httptools", access_log=False
    )


if __name__ == "__main__":
    main()

"""A model card as one dict, gathered from what the steps of a run wrote."""

from collections.abc import Mapping
from typing import Any

from recommender.config import whole_numbers
from recommender.settings import ModelConfig
from reporting.card.data import data_of
from reporting.card.limits import limits_of
from reporting.card.measured import measured_of
from reporting.card.prose import ethics_of, intended_use_of, out_of_scope_of
from reporting.settings import CardConfig

REPRODUCED = ("text", "features", "model", "training", "compression")


def build_card(
    config: CardConfig,
    *,
    snapshot: Mapping[str, Any],
    period: tuple[str, str] | None,
    features: Mapping[str, Any],
    vectors: Mapping[str, Any],
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    manifest: Mapping[str, Any],
    serving: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything the card says, JSON-ready.

    Args:
        config: what people say of the model.
        snapshot, features, vectors, model, training, evaluation, manifest: snapshot.json,
            features.json, encoder.json, model.json, training.json, the evaluation's report and
            the version's kuberec.json. Of the evaluation all but `test` may be missing.
        period: days of the first and of the last event, ISO; None where unknown.
        serving: the run's `serving` section.
    """
    shape = ModelConfig.model_validate(model["config"])
    measured = measured_of(evaluation)
    data = data_of(snapshot, features, period)
    served = manifest["ledger"]["rows"][-1]
    return {
        "version": manifest["version"],
        "created": manifest["created"],
        "people": {
            "owner": config.owner,
            "contact": config.contact,
            "licence": config.licence,
            "citation": config.citation,
        },
        "languages": config.languages,
        "base_model": shape.hf.name if shape.hf is not None and shape.hf.pretrained else None,
        "details": _details(shape, model, vectors, training, manifest, served),
        "intended_use": list(config.intended_use) or intended_use_of(data, shape),
        "out_of_scope": [*config.out_of_scope, *out_of_scope_of(data)],
        "data": data,
        "evaluation": measured,
        "ledger": manifest["ledger"]["rows"],
        "limits": [
            *config.limits,
            *limits_of(measured, data, shape, serving, manifest["ledger"]["rows"]),
        ],
        "ethics": [*config.ethics, *ethics_of(data)],
        "reproduce": {
            "command": "kuberec run config.yaml",
            "data_fingerprint": manifest["data_fingerprint"],
            "code": manifest["code"],
            "sections": {
                name: whole_numbers(manifest["config"][name])
                for name in REPRODUCED
                if name in manifest["config"]
            },
        },
    }


def _details(
    shape: ModelConfig,
    model: Mapping[str, Any],
    vectors: Mapping[str, Any],
    training: Mapping[str, Any],
    manifest: Mapping[str, Any],
    served: Mapping[str, Any],
) -> list[tuple[str, str]]:
    """(what, value) in the order of reading; what the run's files do not say is left out."""
    backbone = shape.backbone if shape.hf is None else f"{shape.backbone}: {shape.hf.name}"
    settings, tracked = training["config"], manifest.get("tracking") or {}
    precision = f", {training['precision']}" if "precision" in training else ""
    layers = shape.layers if shape.hf is None else shape.hf.layers
    rows = [
        ("Task", "next item of a user's history, as a ranked list over the whole catalogue"),
        ("Backbone", f"{backbone}; reads the latest {shape.max_length} known items"),
        ("Width, layers, heads", f"{shape.dim}, {layers or 'all'}, {shape.heads}"),
        ("Positions, time", f"{shape.position}; {shape.time}"),
        ("Items", _items(shape, model, vectors)),
        ("Scores", f"{shape.similarity} of the hidden state and the item"),
        ("Parameters", f"{training.get('parameters', model['parameters']):,}"),
        ("Served", f"{served['step']}: {served['parameters']:,} parameters"),
        ("Loss", settings.get("loss")),
        (
            "Training",
            f"{len(training['curves'])} epochs, the best was {training['best_epoch'] + 1}; "
            f"{training['seconds']:.0f} s; learning rate {settings['learning_rate']:g}, "
            f"batch {settings['batch_size']:g}{precision}",
        ),
        ("Seed", str(training["seed"])),
        ("Code", manifest["code"]),
        ("Git commit", _commit(tracked)),
        ("Registered", " ".join(tracked[key] for key in ("model", "registered") if key in tracked)),
        ("Tracking run", tracked.get("run")),
    ]
    return [(name, value) for name, value in rows if value]


def _commit(tracked: Mapping[str, Any]) -> str | None:
    sha = tracked.get("git_sha")
    if sha == "unknown":  # outside a checkout
        return None
    return f"{sha}, with changes beside it" if tracked.get("git_dirty") == "true" else sha


def _items(shape: ModelConfig, model: Mapping[str, Any], vectors: Mapping[str, Any]) -> str:
    """What an item is made of: id, text, image."""
    parts = [f"{model['items']:,} by id"]
    if model.get("text_dim"):
        pooling = f", {vectors['pooling']}" if vectors.get("pooling") else ""
        encoder = vectors.get("encoder") or ", ".join(vectors.get("features", ()))
        parts.append(f"text by {encoder} ({model['text_dim']} numbers{pooling})")
    if model.get("image_dim"):
        parts.append(f"image ({model['image_dim']} numbers)")
    how = {"sum": "added", "gate": "weighed by a gate that knows how often an item was seen"}
    return " and ".join(parts) + (f"; {how[shape.fusion]}" if len(parts) > 1 else "")

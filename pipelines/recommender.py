"""The pipeline: raw events and items in, a served model version out.

One function for every place it runs: `kuberec run` executes it on this machine, `kuberec compile`
turns it into Kubeflow's YAML, `kuberec submit` sends that to a Kubeflow Pipelines host.
Each parameter is a section of the run's YAML (pipelines/config.py), but for `source_fingerprint`
and `target`, which says where the version will serve: "embedded" or "kserve".
"""

from typing import NamedTuple

from kfp import dsl

from components.build_features import build_features
from components.check_catalogue import check_catalogue
from components.compress import compress
from components.encode_items import encode_items
from components.evaluate import evaluate
from components.export_version import export_version
from components.gate import gate_behind
from components.ingest import ingest
from components.materialize import materialize
from components.report import report
from components.rollout import rollout
from components.train import train
from components.validate import validate


class Outputs(NamedTuple):
    """What a run leaves for its caller."""

    page: dsl.HTML
    model_card: dsl.Markdown
    summary: dsl.Artifact
    compression_page: dsl.HTML


@dsl.pipeline(
    name="recommender",
    description="Events and item texts to a validated, compressed recommender served by Triton",
)
def recommender(
    source: dict,
    validation: dict,
    text: dict,
    features: dict,
    model: dict,
    training: dict,
    evaluation: dict,
    compression: dict,
    export: dict,
    serving: dict,
    tracking: dict,
    card: dict,
    source_fingerprint: str,
    target: str = "embedded",
) -> Outputs:
    """Each gate stands before everything that depends on it, by data or by `after`.

    A step that measures succeeds, so that a cluster keeps its report; the gate behind it fails.

    A cluster's cache looks at the names of a step's input artifacts, not at what is in them. So
    whoever makes an artifact says its content's fingerprint, and whoever reads it takes that too.
    """
    ingested = ingest(source=source, source_fingerprint=source_fingerprint)
    snapshot = ingested.outputs["snapshot"]
    data_fingerprint = ingested.outputs["data_fingerprint"]

    validated = validate(validation=validation, features=features, snapshot=snapshot)
    validated.set_caching_options(False)
    validated_gate = gate_behind("validate", validated.outputs["validation_report"])
    encoded = encode_items(text=text, snapshot=snapshot, data_fingerprint=data_fingerprint)
    encoded.after(validated_gate)
    item_vectors = encoded.outputs["item_vectors"]
    vectors_fingerprint = encoded.outputs["vectors_fingerprint"]
    built = build_features(
        features=features,
        snapshot=snapshot,
        item_vectors=item_vectors,
        data_fingerprint=data_fingerprint,
        vectors_fingerprint=vectors_fingerprint,
    )
    windows = built.outputs["windows"]
    windows_fingerprint = built.outputs["windows_fingerprint"]
    checked = check_catalogue(model=model, compression=compression, export=export, windows=windows)
    checked.set_caching_options(False)

    # Where a training is written down is no part of its checkpoints' key. The cache sees it all the
    # same, since one of the outputs is the run in that store.
    trained = train(
        model=model,
        training=training,
        tracking=tracking,
        windows=windows,
        item_vectors=item_vectors,
        windows_fingerprint=windows_fingerprint,
        vectors_fingerprint=vectors_fingerprint,
    )
    trained.after(checked)
    trained_model = trained.outputs["trained_model"]
    model_fingerprint = trained.outputs["model_fingerprint"]
    tracking_run = trained.outputs["tracking_run"]
    evaluated = evaluate(
        evaluation=evaluation,
        tracking=tracking,
        tracking_run=tracking_run,
        snapshot=snapshot,
        windows=windows,
        trained_model=trained_model,
        windows_fingerprint=windows_fingerprint,
        model_fingerprint=model_fingerprint,
    )
    evaluated.set_caching_options(False)  # the champion may be another by now
    evaluated_gate = gate_behind("evaluate", evaluated.outputs["evaluation_report"])
    compressed = compress(
        compression=compression,
        evaluation=evaluation,
        export=export,
        snapshot=snapshot,
        windows=windows,
        trained_model=trained_model,
        data_fingerprint=data_fingerprint,
        windows_fingerprint=windows_fingerprint,
        model_fingerprint=model_fingerprint,
    )
    compressed.after(evaluated_gate)
    compressed_gate = gate_behind("compress", compressed.outputs["compression_report"])
    exported = export_version(
        source=source,
        text=text,
        features=features,
        model=model,
        training=training,
        compression=compression,
        export=export,
        serving=serving,
        tracking=tracking,
        tracking_run=tracking_run,
        snapshot=snapshot,
        windows=windows,
        item_vectors=item_vectors,
        trained_model=trained_model,
        compressed=compressed.outputs["compressed"],
        evaluation_report=evaluated.outputs["evaluation_report"],
        data_fingerprint=data_fingerprint,
        windows_fingerprint=windows_fingerprint,
        vectors_fingerprint=vectors_fingerprint,
        compressed_fingerprint=compressed.outputs["compressed_fingerprint"],
        model_fingerprint=model_fingerprint,
        evaluation_fingerprint=evaluated.outputs["evaluation_fingerprint"],
    )
    exported.after(compressed_gate)
    exported_gate = gate_behind("export-version", exported.outputs["export_report"])
    # The online store and the server are changed, not computed: never from the cache.
    version = exported.outputs["version"]
    online = materialize(windows=windows, version=version, target=target)
    online.after(exported_gate).set_caching_options(False)
    rolled_out = rollout(
        serving=serving,
        tracking=tracking,
        model_version=exported.outputs["model_version"],
        version=version,
        target=target,
    )
    rolled_out.after(online).set_caching_options(False)
    rolled_out_gate = gate_behind("rollout", rolled_out.outputs["rollout_report"])
    reported = report(
        card=card,
        serving=serving,
        snapshot=snapshot,
        validation_report=validated.outputs["validation_report"],
        item_vectors=item_vectors,
        windows=windows,
        trained_model=trained_model,
        evaluation_report=evaluated.outputs["evaluation_report"],
        model_version=exported.outputs["model_version"],
        rollout_report=rolled_out.outputs["rollout_report"],
        target=target,
    )
    reported.after(rolled_out_gate).set_caching_options(False)
    return Outputs(
        page=reported.outputs["page"],
        model_card=reported.outputs["model_card"],
        summary=reported.outputs["summary"],
        compression_page=compressed.outputs["compression_page"],
    )

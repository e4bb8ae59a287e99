"""Step 8, with a gate behind it: the self-contained model version, measured for parity.

It has to be equal on torch, ONNX Runtime and Triton.
"""

from typing import NamedTuple

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image("components", "serving", "tracking", "recommender"), install_kfp_package=False
)
def export_version(
    source: dict,
    text: dict,
    features: dict,
    model: dict,
    training: dict,
    compression: dict,
    export: dict,
    serving: dict,
    tracking: dict,
    tracking_run: str,
    data_fingerprint: str,
    windows_fingerprint: str,
    vectors_fingerprint: str,
    model_fingerprint: str,
    compressed_fingerprint: str,
    evaluation_fingerprint: str,
    snapshot: dsl.Input[dsl.Dataset],
    windows: dsl.Input[dsl.Dataset],
    item_vectors: dsl.Input[dsl.Dataset],
    trained_model: dsl.Input[dsl.Model],
    compressed: dsl.Input[dsl.Model],
    evaluation_report: dsl.Input[dsl.Artifact],
    model_version: dsl.Output[dsl.Model],
    export_report: dsl.Output[dsl.Artifact],
) -> NamedTuple("Exported", [("version", str)]):  # type: ignore[valid-type]
    """Write the Triton repository and measure its parity; a broken one stops the run, at the gate.

    Args:
        source, text, features, model, training, compression, export: sections of the run's YAML;
            they travel in kuberec.json and, with the data and the code, name the version.
        serving: the run's section; only its `triton` part goes into the version and its name:
            an endpoint can move to another port without becoming another version.
        tracking: the run's section. The version is registered once its parity holds, so that
            kuberec.json can name the number; it becomes a candidate when its rollout starts.
        tracking_run: of `train`.
        data_fingerprint: of `ingest`.
        windows_fingerprint, vectors_fingerprint, model_fingerprint, compressed_fingerprint,
            evaluation_fingerprint: of the inputs, for the pipeline's cache and the registry.
        snapshot: of `ingest`; what was read, for the registry.
        windows: of `build_features`; golden requests are histories of its test split.
        item_vectors: of `encode_items`; how it made them travels with the version, for new items.
        trained_model: of `train`.
        compressed: of `compress`.
        evaluation_report: of `evaluate`.
        model_version: the folder of contract 2 in docs/DESIGN.md; not made if the parity is broken.
        export_report: the parity's checks and the gate's verdict, as a JSON file.

    Returns:
        version: 12 hex digits, the same for the same data, settings and code; "" for none.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.image import source_hash
    from components.step import note, state_home, step
    from components.verdict import KEY, verdict
    from recommender.errors import GateFailed
    from recommender.files import read_json, write_json
    from recommender.settings import ExportConfig
    from serving.export import write_version
    from serving.settings import ServingConfig
    from tracking.store import store_of
    from tracking.versions import Origin, register_version

    triton = ServingConfig.model_validate(serving).triton
    sections = {
        "source": source,
        "text": text,
        "features": features,
        "model": model,
        "training": training,
        "compression": compression,
        "export": export,
        "serving": {"triton": triton.model_dump()},
    }
    with step("export-version") as progress:
        facts = {
            "config": sections,
            "data_fingerprint": data_fingerprint,
            "metrics": read_json(Path(evaluation_report.path))["test"]["model"],
            "code": source_hash("recommender", "ingestion", "feature_repo", "serving"),
        }
        store = store_of(tracking, state_home(), lambda text: note("export-version", text))
        origin = Origin(
            run=tracking_run,
            fingerprints={
                "data": data_fingerprint,
                "windows": windows_fingerprint,
                "vectors": vectors_fingerprint,
                "model": model_fingerprint,
            },
            config=sections,
            model_dir=Path(trained_model.path),
            evaluation=Path(evaluation_report.path),
            snapshot=Path(snapshot.path) / "snapshot.json",
            where=model_version.uri,
        )

        def registered(name: str) -> dict[str, object]:
            return {"tracking": register_version(store, name, origin)} if store else {}

        version, failure = "", None
        try:
            version = write_version(
                Path(model_version.path),
                Path(compressed.path),
                Path(windows.path),
                Path(item_vectors.path),
                ExportConfig.model_validate(export),
                facts,
                triton,
                progress=progress,
                notes=registered,
            ).version
            rows = read_json(Path(model_version.path) / "kuberec.json")["checks"]
        except GateFailed as error:
            rows, failure = [check.as_dict() for check in error.checks], error
        report = {"version": version, KEY: verdict(rows, failure)}
        write_json(Path(export_report.path), report)
    return namedtuple("Exported", ["version"])(version)

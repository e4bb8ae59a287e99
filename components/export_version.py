"""Step 8, with a gate behind it: the self-contained model version, measured for parity.

It has to be equal on torch, ONNX Runtime and Triton.
"""

from typing import NamedTuple

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("components", "serving", "recommender"), install_kfp_package=False)
def export_version(
    source: dict,
    text: dict,
    features: dict,
    model: dict,
    training: dict,
    compression: dict,
    export: dict,
    serving: dict,
    data_fingerprint: str,
    windows_fingerprint: str,
    vectors_fingerprint: str,
    compressed_fingerprint: str,
    evaluation_fingerprint: str,
    windows: dsl.Input[dsl.Dataset],
    item_vectors: dsl.Input[dsl.Dataset],
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
        data_fingerprint: of `ingest`.
        windows_fingerprint, vectors_fingerprint, compressed_fingerprint, evaluation_fingerprint: of
            the inputs, for the pipeline's cache.
        windows: of `build_features`; golden requests are histories of its test split.
        item_vectors: of `encode_items`; how it made them travels with the version, for new items.
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
    from components.step import step
    from components.verdict import KEY, verdict
    from recommender.errors import GateFailed
    from recommender.files import read_json, write_json
    from recommender.settings import ExportConfig
    from serving.export import write_version
    from serving.settings import ServingConfig

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
            ).version
            rows = read_json(Path(model_version.path) / "kuberec.json")["checks"]
        except GateFailed as error:
            rows, failure = [check.as_dict() for check in error.checks], error
        report = {"version": version, KEY: verdict(rows, failure)}
        write_json(Path(export_report.path), report)
    return namedtuple("Exported", ["version"])(version)

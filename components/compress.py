"""Step 7, with a gate behind it: a smaller, quantised student and the ledger of its costs."""

from typing import NamedTuple

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("components", "recommender"), install_kfp_package=False)
def compress(
    compression: dict,
    export: dict,
    windows: dsl.Input[dsl.Dataset],
    trained_model: dsl.Input[dsl.Model],
    windows_fingerprint: str,
    model_fingerprint: str,
    compressed: dsl.Output[dsl.Model],
    compression_report: dsl.Output[dsl.Artifact],
) -> NamedTuple("Compressed", [("compressed_fingerprint", str)]):  # type: ignore[valid-type]
    """Distil, quantise and measure; a blown budget stops the run, at the gate behind this step.

    Args:
        compression: the run's `compression` section.
        export: the run's `export` section: the shapes of the measured graph.
        windows: of `build_features`.
        trained_model: of `train`.
        windows_fingerprint, model_fingerprint: of the inputs, for the pipeline's cache.
        compressed: student/, ranker.onnx (INT8), ranker_fp32.onnx, ledger.json; whole
            even where a budget is blown, to be looked at.
        compression_report: the ledger and the gate's verdict, as a JSON file.

    Returns:
        compressed_fingerprint: sha256 of `compressed`.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.step import step
    from components.verdict import KEY, verdict
    from recommender.compression.compress import compress as run
    from recommender.errors import GateFailed
    from recommender.files import content_fingerprint, read_json, write_json
    from recommender.settings import CompressionConfig, ExportConfig

    with step("compress") as progress:
        failure = None
        try:
            run(
                Path(trained_model.path),
                Path(windows.path),
                CompressionConfig.model_validate(compression),
                ExportConfig.model_validate(export),
                Path(compressed.path),
                progress,
            )
        except GateFailed as error:
            failure = error
        ledger = read_json(Path(compressed.path) / "ledger.json")
        report = ledger | {KEY: verdict(ledger["checks"], failure)}
        write_json(Path(compression_report.path), report)
        content = content_fingerprint(Path(compressed.path))
        full, served = ledger["rows"][0], ledger["rows"][-1]
        smaller = full["bytes"] / served["bytes"]
        progress(1, 1, f"{smaller:.1f}x smaller, test NDCG@10 {served['ndcg@10']:.4f}")
    return namedtuple("Compressed", ["compressed_fingerprint"])(content)

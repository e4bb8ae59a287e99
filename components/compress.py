"""Step 7, a gate: a smaller, quantised student and the ledger of what it cost and gained."""

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
) -> NamedTuple("Compressed", [("compressed_fingerprint", str)]):  # type: ignore[valid-type]
    """Distil, quantise and measure; a blown budget stops the run.

    Args:
        compression: the run's `compression` section.
        export: the run's `export` section: the shapes of the measured graph.
        windows: of `build_features`.
        trained_model: of `train`.
        windows_fingerprint, model_fingerprint: of the inputs, for the pipeline's cache.
        compressed: student/, ranker.onnx (INT8), ranker_fp32.onnx, ledger.json; written before a
            failure is raised.

    Returns:
        compressed_fingerprint: sha256 of `compressed`.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.step import step
    from recommender.compression.compress import compress as run
    from recommender.files import content_fingerprint
    from recommender.settings import CompressionConfig, ExportConfig

    with step("compress") as progress:
        ledger = run(
            Path(trained_model.path),
            Path(windows.path),
            CompressionConfig.model_validate(compression),
            ExportConfig.model_validate(export),
            Path(compressed.path),
            progress,
        )
        content = content_fingerprint(Path(compressed.path))
        full, served = ledger["rows"][0], ledger["rows"][-1]
        smaller = full["bytes"] / served["bytes"]
        progress(1, 1, f"{smaller:.1f}x smaller, test NDCG@10 {served['ndcg@10']:.4f}")
    return namedtuple("Compressed", ["compressed_fingerprint"])(content)

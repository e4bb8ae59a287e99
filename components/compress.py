"""Step 7, a gate: a smaller, quantised student and the ledger of what it cost and gained."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("components", "recommender"), install_kfp_package=False)
def compress(
    compression: dict,
    export: dict,
    windows: dsl.Input[dsl.Dataset],
    trained_model: dsl.Input[dsl.Model],
    data_fingerprint: str,
    compressed: dsl.Output[dsl.Model],
) -> None:
    """Distil, quantise and measure; a blown budget stops the run.

    Args:
        compression: the run's `compression` section.
        export: the run's `export` section: the shapes of the measured graph.
        windows: of `build_features`.
        trained_model: of `train`.
        data_fingerprint: of `ingest`, for the pipeline's cache.
        compressed: student/, ranker.onnx (INT8), ranker_fp32.onnx, ledger.json.
    """
    from pathlib import Path

    from components.step import step
    from recommender.compression.compress import compress as run
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
        full, served = ledger["rows"][0], ledger["rows"][-1]
        smaller = full["bytes"] / served["bytes"]
        progress(1, 1, f"{smaller:.1f}x smaller, test NDCG@10 {served['ndcg@10']:.4f}")

"""Step 7, with a gate behind it: a smaller, faster ranker and the ledger of what each step cost."""

from typing import NamedTuple

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image("components", "recommender", "reporting"), install_kfp_package=False
)
def compress(
    compression: dict,
    evaluation: dict,
    export: dict,
    snapshot: dsl.Input[dsl.Dataset],
    windows: dsl.Input[dsl.Dataset],
    trained_model: dsl.Input[dsl.Model],
    data_fingerprint: str,
    windows_fingerprint: str,
    model_fingerprint: str,
    compressed: dsl.Output[dsl.Model],
    compression_report: dsl.Output[dsl.Artifact],
    compression_page: dsl.Output[dsl.HTML],
) -> NamedTuple("Compressed", [("compressed_fingerprint", str)]):  # type: ignore[valid-type]
    """Take the steps and measure; a blown budget stops the run, at the gate behind this step.

    Finished steps are kept in the state home until the budgets hold: this step's own folder is
    another in every run, and of a killed pod it is gone.

    Args:
        compression: the run's `compression` section.
        evaluation: the run's section; of it come the slices, and the resamples of intervals.
        export: the run's `export` section: the shapes of the measured graph.
        snapshot: of `ingest`: categories and languages of the items, for slices.
        windows: of `build_features`.
        trained_model: of `train`.
        data_fingerprint, windows_fingerprint, model_fingerprint: of the inputs, for the pipeline's
            cache.
        compressed: student/, ranker.onnx (served), ranker_fp32.onnx, ledger.json; whole even where
            a budget is blown, to be looked at.
        compression_report: the ledger and the gate's verdict, as a JSON file.
        compression_page: the same for a person: budgets, Pareto plot, tables, slices.

    Returns:
        compressed_fingerprint: sha256 of `compressed`.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.image import source_hash
    from components.step import note, state_home, step
    from components.verdict import KEY, verdict
    from recommender.compression.compress import compress as run
    from recommender.errors import GateFailed, KuberecError
    from recommender.files import content_fingerprint, read_json, write_json
    from recommender.settings import CompressionConfig, EvaluationConfig, ExportConfig
    from reporting.compression_page import write_compression
    from reporting.ledger import row_line

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
                evaluation=EvaluationConfig.model_validate(evaluation),
                items_dir=Path(snapshot.path),
                work_dir=state_home() / "cache" / "compression",
                code=source_hash("recommender"),
                row_made=lambda row: note("compress", row_line(row)),
            )
        except GateFailed as error:
            failure = KuberecError(f"{error}\npage: {compression_page.uri}")
        ledger = read_json(Path(compressed.path) / "ledger.json")
        report = ledger | {KEY: verdict(ledger["checks"], failure)}
        write_json(Path(compression_report.path), report)
        write_compression(Path(compression_page.path), ledger, model_fingerprint)
        content = content_fingerprint(Path(compressed.path))
        served = ledger["rows"][-1]
        smaller, faster = served["times_smaller"], served["times_faster"]
        ndcg = served["ndcg@10"]
        progress(1, 1, f"{smaller:.1f}x smaller, {faster:.1f}x faster, test NDCG@10 {ndcg:.4f}")
    return namedtuple("Compressed", ["compressed_fingerprint"])(content)

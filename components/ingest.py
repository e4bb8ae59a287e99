"""Step 1: any source to the three tables, with what could not be used kept beside them."""

from typing import NamedTuple

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image("components", "ingestion", "recommender"), install_kfp_package=False
)
def ingest(
    source: dict,
    source_fingerprint: str,
    snapshot: dsl.Output[dsl.Dataset],
) -> NamedTuple("Ingested", [("data_fingerprint", str)]):  # type: ignore[valid-type]
    """Write the snapshot folder of `source`.

    Args:
        source: the run's `source` section.
        source_fingerprint: of the source's files, the users erased and the key of pseudonyms;
            unused by the work itself, it makes the pipeline's cache see when they change.
        snapshot: events, items, users and rejects as parquet, and snapshot.json.

    Returns:
        data_fingerprint: sha256 of the tables' content.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.step import state_home, step
    from ingestion.ingest import ingest as run
    from ingestion.reading.download import fetch
    from ingestion.sources import SourceConfig

    with step("ingest") as progress:

        def tell(message: str) -> None:
            progress(0, 0, message)

        home = state_home()
        config = fetch(SourceConfig.model_validate(source), home / "data", tell)
        result = run(config, Path(snapshot.path), tell, home / "ingest" / config.slug)
        kept = ", ".join(f"{count:,} {table}" for table, count in result["kept"].items())
        rejected, filtered = (
            sum(sum(reasons.values()) for reasons in result[how].values())
            for how in ("rejected", "filtered")
        )
        aside = f", {filtered:,} filtered" if filtered else ""
        progress(1, 1, f"{kept} kept, {rejected:,} rejected{aside}")
    return namedtuple("Ingested", ["data_fingerprint"])(result["fingerprint"])

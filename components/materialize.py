"""Step 9: the feature tables into the online store, and the version's FeatureService."""

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image("components", "feature_repo", "recommender"), install_kfp_package=False
)
def materialize(
    windows: dsl.Input[dsl.Dataset],
    version: str,
    target: str,
    online_report: dsl.Output[dsl.Artifact],
) -> None:
    """Apply the feature repository and bring the online store up to date.

    It changes a store that is being read, so it is never cached and comes after every gate on the
    data and the model.

    Args:
        windows: of `build_features`.
        version: of `export_version`; its FeatureService is `recommend_<version>`.
        target: where the version will serve, "embedded" or "kserve"; the latter's online store is
            that of the feature_store.yaml which FEAST_FS_YAML_FILE_PATH names.
        online_report: of each view rows, how many were written and how fast, as a JSON file.
    """
    from pathlib import Path

    from components.step import state_home, step
    from feature_repo.materialize.home import materialize as run
    from feature_repo.store import SETTINGS_VARIABLE, own_settings
    from recommender.errors import KuberecError
    from recommender.files import write_json

    with step("materialize") as progress:
        if target not in ("embedded", "kserve"):
            raise KuberecError(f"target '{target}': allowed: embedded, kserve")
        if target == "kserve" and own_settings() is None:
            raise KuberecError(
                f"{SETTINGS_VARIABLE} is not set: an endpoint on a cluster reads features from the "
                "online store of the ConfigMap 'feature-store'; mount it and name its "
                "feature_store.yaml there (cluster.config_maps does it for a compiled pipeline)"
            )
        result = run(Path(windows.path), state_home(), version, progress)
        write_json(Path(online_report.path), result)
        rows = ", ".join(
            f"{of['rows']:,} of {view} ({of['mode']}: {of['written']:,} written"
            + (f", {of['rows_per_s']:,}/s)" if of["written"] else ")")
            for view, of in result["views"].items()
        )
        progress(1, 1, f"{rows} online")

"""Between steps 4 and 5: what the number of items rules out is said before hours of training."""

from kfp import dsl

from components.image import image


# A step of its own: as arguments of `build-features` or `train` these settings would be a reason
# to do that again.
@dsl.component(base_image=image("components", "recommender"), install_kfp_package=False)
def check_catalogue(
    model: dict, compression: dict, export: dict, windows: dsl.Input[dsl.Dataset]
) -> None:
    """Fail where settings of later steps want more items than the windows have, or fewer.

    Args:
        model, compression, export: sections of the run's YAML.
        windows: of `build_features`.
    """
    from pathlib import Path

    from components.step import step
    from recommender.compression.catalogue import check_catalogue as run
    from recommender.files import read_json
    from recommender.settings import CompressionConfig, ExportConfig, ModelConfig

    with step("check-catalogue") as progress:
        items = len(read_json(Path(windows.path) / "vocabulary.json"))
        run(
            CompressionConfig.model_validate(compression).steps,
            ModelConfig.model_validate(model),
            ExportConfig.model_validate(export),
            items,
        )
        progress(1, 1, f"compression and export go with {items:,} items")

"""What a search starts from, a space's YAML and a run's data, and the config that it ends in."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.config import ConfigError, StrictLoader, load_config
from recommender.files import atomic_file
from tuning.results import Row
from tuning.settings import TuningConfig, parse_tuning


def read_space(path: Path, **changes: Any) -> TuningConfig:
    """A space's YAML; `changes` that are not None win over what it says.

    Raises:
        KuberecError: it cannot be read, or says what no search can do.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=StrictLoader)
    except OSError as error:
        raise ConfigError(f"cannot read the space '{path}': {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    given = {key: value for key, value in changes.items() if value is not None}
    return parse_tuning(content | given if isinstance(content, dict) else content, str(path))


def write_best_config(
    target: Path, source: Path, overrides: Sequence[str], best: Row, study: str
) -> None:
    """The run's YAML, with the overrides and the best trial's values; its comments are lost."""
    changes = [f"{key}={json.dumps(value)}" for key, value in best.values.items()]
    run = load_config(source, [*overrides, *changes])
    content = run.model_dump(mode="json", exclude_unset=True)
    content["name"] = run.name
    # What stands before the first key tells what the run is, and where its data is from.
    head = re.match(r"(?:[ \t]*(?:#.*)?\n)*", Path(source).read_text(encoding="utf-8"))
    lines = [
        *(head.group().strip().splitlines() if head else []),
        f"# {source.name} with the best values of study {study}, trial {best.number}:",
        f"# validation NDCG@10 {best.value:.4f}; changed: {', '.join(best.values)}.",
    ]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    with atomic_file(target) as draft:
        draft.write_text("\n".join([*lines, text]), encoding="utf-8")

"""What a trial changes: the `model` and `training` sections of a run."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from recommender.errors import KuberecError
from recommender.settings import ModelConfig, TrainingConfig
from tuning.settings import explain

SECTIONS: dict[str, type[BaseModel]] = {"model": ModelConfig, "training": TrainingConfig}


class Refused(KuberecError):
    """A config that its own sections refuse, such as a dim that its heads do not divide."""


@dataclass(frozen=True)
class Base:
    """The two sections that a trial trains by."""

    model: ModelConfig
    training: TrainingConfig

    @classmethod
    def read(cls, source: str) -> "Base":
        """Of JSON text, or of a YAML or JSON file, in which other sections are passed over.

        Raises:
            KuberecError: it cannot be read, or a section is refused.
        """
        try:
            inline = source.lstrip().startswith("{")
            content = yaml.safe_load(source if inline else Path(source).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise KuberecError(f"cannot read the base config '{source}': {error}") from error
        if not isinstance(content, Mapping):
            raise KuberecError(f"the base config '{source}' has no sections")
        return _validated({name: content.get(name) or {} for name in SECTIONS})

    def sections(self) -> dict[str, dict[str, Any]]:
        """Both as plain JSON, whole: a later version's defaults change nothing of them."""
        return {name: getattr(self, name).model_dump(mode="json") for name in SECTIONS}

    def with_values(self, values: Mapping[str, Any]) -> "Base":
        """These sections with some keys changed, `{"model.dim": 128}`.

        Raises:
            Refused: with the reason, of all that is wrong.
        """
        content = self.sections()
        for key, value in values.items():
            *parents, last = key.split(".")
            node: Any = content
            for parent in parents:
                if node.get(parent) is None:
                    node[parent] = {}
                node = node[parent]
            node[last] = value
        return _validated(content)


def _validated(content: Mapping[str, Mapping[str, Any]]) -> Base:
    made: dict[str, Any] = {}
    problems = []
    for name, section in SECTIONS.items():
        try:
            made[name] = section.model_validate(content[name])
        except ValidationError as error:
            for problem in error.errors():
                problems.append(explain({**problem, "loc": (name, *problem["loc"])}))
    if problems:
        raise Refused("; ".join(problems))
    return Base(**made)


def field_type(key: str) -> Any:
    """The annotation of a dotted key, without `| None`.

    Raises:
        KuberecError: there is no such key, or it is none that a trial can change.
    """
    section, *parts = key.split(".")
    if section not in SECTIONS:
        if section == "text":
            raise KuberecError(
                f"space: '{key}' changes the items' vectors, which a trial is given and does not "
                "make: tune model.… and training.… once for each run's vectors"
            )
        raise KuberecError(f"space: '{key}' is no key that a trial can change: model.…, training.…")
    annotation: Any = SECTIONS[section]
    for depth, part in enumerate(parts):
        fields = getattr(annotation, "model_fields", {})
        if part not in fields:
            close = difflib.get_close_matches(part, fields, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else "."
            place = ".".join([section, *parts[:depth]])
            raise KuberecError(
                f"space: unknown key '{key}'{hint} Keys of {place}: {', '.join(sorted(fields))}"
            )
        annotation = fields[part].annotation
        if type(None) in get_args(annotation):
            annotation = next(each for each in get_args(annotation) if each is not type(None))
    if hasattr(annotation, "model_fields"):
        raise KuberecError(f"space: '{key}' is a section, not a value: name a key of it")
    return annotation


def value_text(value: Any) -> str:
    """A value as it stands behind `--set key=`: text bare, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def read_value(text: str) -> Any:
    """The value of such a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text

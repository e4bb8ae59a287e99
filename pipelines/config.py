"""One YAML file is one run: read, and checked whole before anything starts."""

import difflib
from collections.abc import Sequence, Set
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError

from feature_repo.config import FeatureConfig
from ingestion.sources import SourceConfig
from ingestion.validation.settings import ValidationConfig
from pipelines.cluster_settings import ClusterConfig
from recommender.compression.check import check_scoring, check_shapes
from recommender.config import Section
from recommender.errors import KuberecError
from recommender.settings import (
    CompressionConfig,
    EvaluationConfig,
    ExportConfig,
    ModelConfig,
    TextConfig,
    TrainingConfig,
)
from reporting.settings import CardConfig
from serving.settings import ServingConfig
from tracking.settings import TrackingConfig


class ConfigError(KuberecError):
    """The run's YAML cannot be used."""


class RunConfig(Section):
    """A whole run: one section for each owner.

    All of them but `cluster`, which says where the steps run, are the pipeline's parameters.
    """

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)
    source: SourceConfig
    validation: ValidationConfig = ValidationConfig()
    text: TextConfig = TextConfig()
    features: FeatureConfig = FeatureConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    compression: CompressionConfig = CompressionConfig()
    export: ExportConfig = ExportConfig()
    serving: ServingConfig = ServingConfig()
    tracking: TrackingConfig = TrackingConfig()
    card: CardConfig = CardConfig()
    cluster: ClusterConfig = ClusterConfig()

    def sections(self) -> dict[str, dict[str, Any]]:
        """Every section as plain JSON, by name: the arguments of the pipeline.

        Kubeflow has no null within an argument, so nulls are left out; they are defaults.

        Raises:
            ConfigError: a null that is no default would be lost.
        """
        arguments = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, BaseModel) and name != "cluster":
                arguments[name] = value.model_dump(mode="json", exclude_none=True)
                if type(value).model_validate(arguments[name]) != value:
                    null = _null_of_another_default(value, name)
                    raise ConfigError(
                        f"{null}: null cannot be told to a pipeline, and here it is not what the "
                        "key has where it is left out: give a value"
                    )
        arguments["tracking"] = self.tracking.named(self.name).model_dump(mode="json")
        return arguments


def _null_of_another_default(section: BaseModel, name: str) -> str:
    """The first key of a section that is null where its default is not; else the section's name."""
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if value is None and field.get_default(call_default_factory=True) is not None:
            return f"{name}.{key}"
        if isinstance(value, BaseModel):
            found = _null_of_another_default(value, f"{name}.{key}")
            if found != f"{name}.{key}":
                return found
    return name


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read and check a run's YAML; `overrides` are `section.key=value`, the value read as YAML.

    Raises:
        ConfigError: naming every offending key with its line and value, and what is allowed there.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read config '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from error
    try:
        content = yaml.load(text, Loader=StrictLoader)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections such as 'source:' and 'training:' at the top")
    overridden = {_apply_override(content, override) for override in overrides}
    try:
        config = RunConfig.model_validate(content)
    except ValidationError as error:
        lines = [_explain(problem, tree, overridden) for problem in error.errors()]
        noun = "problem" if len(lines) == 1 else "problems"
        raise ConfigError("\n  ".join([f"{path}: {len(lines)} {noun}", *lines])) from error
    try:
        check_shapes(config.compression.steps, config.model)
        check_scoring(config.compression.steps, config.export)
    except KuberecError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config


class StrictLoader(yaml.SafeLoader):
    """YAML as usual, but a key that stands twice in a section is an error; YAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(
                None, None, f"key stands twice: {', '.join(repeated)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _apply_override(content: dict[str, Any], override: str) -> tuple[str, ...]:
    """Put `section.key=value` into `content`; returns the key's path."""
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set '{override}': write it as section.key=value")
    *parents, last = key.strip().split(".")
    node = content
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set '{override}': '{parent}' is a value, not a section")
        node = child
    try:
        node[last] = yaml.load(value, Loader=StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set '{override}': the value is not valid YAML: {error}") from error
    return (*parents, last)


def _explain(problem: Any, tree: yaml.Node | None, overridden: Set[tuple[str, ...]]) -> str:
    location = tuple(problem["loc"])
    line = _line_of(tree, location)
    place = f"line {line}: " if line else ""
    if any(location[: len(path)] == path for path in overridden):
        place = "--set: "
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        allowed = _allowed_keys(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        return f"{place}unknown key '{key}'{hint or '.'} Allowed here: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{place}key '{key}' is required"
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return place + _explain_kind(location, key, problem)
    if isinstance(problem["input"], dict):  # a section as a whole: its text is in the file
        place += f"{key}: " if key else ""
        return f"{place}{problem['msg'].removeprefix('Value error, ')}"
    return f"{place}{key} = {problem['input']!r}: {problem['msg']}"


def _explain_kind(location: Sequence[str | int], key: str, problem: Any) -> str:
    """An element of a list of several kinds of sections, whose key that names the kind is wrong."""
    name = problem["ctx"]["discriminator"].strip("'")
    fields = [each.model_fields for each in _union_of(_section_at(location))]
    allowed = list(dict.fromkeys(each[name].default for each in fields if name in each))
    given = problem["ctx"].get("tag")
    if given is None:
        return f"{key}: key '{name}' is required, one of {', '.join(allowed)}"
    close = difflib.get_close_matches(given, allowed, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return f"{key}: {name} = '{given}'{hint} Allowed here: {', '.join(allowed)}"


def _line_of(node: yaml.Node | None, location: Sequence[str | int]) -> int | None:
    """The line, from 1, of the deepest part of `location` that the YAML has."""
    line = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _allowed_keys(location: Sequence[str | int]) -> list[str]:
    """The keys of the section at `location`."""
    return sorted(getattr(_section_at(location), "model_fields", ()))


def _section_at(location: Sequence[str | int]) -> Any:
    """What may stand at `location`, in lists and dicts of sections too: a section, or a union."""
    annotation: Any = RunConfig
    for part in location:
        if hasattr(annotation, "model_fields"):
            field = annotation.model_fields.get(part)
            annotation = None if field is None else field.annotation
        elif members := _union_of(annotation):  # a section's name in a list of several kinds
            named = [
                each for each in members if part in (f.default for f in each.model_fields.values())
            ]
            annotation = Union[tuple(named)] if named else None  # noqa: UP007
        else:  # an index of a list, a key of a dict
            annotation = next(reversed(get_args(annotation)), None)
        if not hasattr(annotation, "model_fields") and type(None) in get_args(annotation):
            annotation = get_args(annotation)[0]  # optional
    return annotation


def _union_of(annotation: Any) -> list[Any]:
    """The sections that a union has, also within others and with a discriminator; else nothing."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, UnionType):
        return []
    return [
        section
        for member in get_args(annotation)
        for section in ([member] if hasattr(member, "model_fields") else _union_of(member))
    ]

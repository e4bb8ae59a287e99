"""The base of every config section; each section lives beside its owner."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of a run's YAML: unknown keys are errors, values are final."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def whole_numbers(content: Any) -> Any:
    """Settings as they were written: a pipeline's arguments make every number a float."""
    if isinstance(content, Mapping):
        return {key: whole_numbers(each) for key, each in content.items()}
    if isinstance(content, list):
        return [whole_numbers(each) for each in content]
    is_whole = isinstance(content, float) and content.is_integer()
    return int(content) if is_whole else content

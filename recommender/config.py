"""The base of every config section; each section lives beside its owner."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of a run's YAML: unknown keys are errors, values are final."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

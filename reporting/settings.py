"""The `card` section of a run's YAML: what only people can say of a model."""

from typing import Annotated

from pydantic import Field, StringConstraints

from recommender.config import Section

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class CardConfig(Section):
    """What the model card says beside what was measured; it changes no version's name.

    Where a key is left out the card says what follows from the data and the model, or that nobody
    has said it.
    """

    owner: Line | None = Field(None, description="who answers for the model: a team or a person")
    contact: Line | None = Field(None, description="where questions go: an address or a page")
    licence: Line | None = Field(
        None, description="of the model: an SPDX id such as apache-2.0, or its name"
    )
    intended_use: list[Line] = Field(
        [], description="what it is made for; instead of the generated sentences"
    )
    out_of_scope: list[Line] = Field(
        [], description="what it must not be used for, beside the generated sentences"
    )
    limits: list[Line] = Field([], description="known limits, before those that were measured")
    ethics: list[Line] = Field([], description="ethical considerations, beside the generated ones")
    languages: list[Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]] = Field(
        [], description="of the items' texts, as ISO 639 codes: [en, de]"
    )
    citation: Line | None = Field(None, description="how to cite the model, beside the data")

"""The pages' templates; what shows a rollout is added by reporting.page."""

from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined

from reporting.card import text
from reporting.card.front_matter import shown
from reporting.ledger import LOSES


def templates() -> Environment:
    """With what they need to show numbers."""
    made = Environment(
        loader=PackageLoader("reporting", "templates"), autoescape=True, undefined=StrictUndefined
    )
    made.globals["loses"] = LOSES
    made.filters["metric"] = shown
    made.filters["decimals"] = text.decimals
    made.filters["span"] = text.span
    made.filters["signed_span"] = partial(text.span, signed=True)
    made.filters["thousands"] = lambda value: f"{value:,}"
    made.filters["short"] = lambda value: f"{value:.4g}" if isinstance(value, float) else value
    return made

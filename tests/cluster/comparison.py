"""Whether an API server kept what it was sent."""

from decimal import Decimal
from typing import Any

_UNITS = {
    **{unit: 1024 ** (power + 1) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"))},
    **{unit: 1000 ** (power + 1) for power, unit in enumerate(("k", "M", "G", "T"))},
    "m": Decimal("0.001"),
}


def lost(sent: Any, stored: Any, path: str = "") -> list[str]:
    """Paths of what was sent and is not stored so; additions are the server's defaults.

    A list must have come back whole, as long as it was and in its order.
    """
    if isinstance(sent, dict) and isinstance(stored, dict):
        found = []
        for key, value in sent.items():
            if key in stored:
                found += lost(value, stored[key], f"{path}.{key}")
            elif value not in ({}, [], None):  # which some types do not keep, and mean the same
                found.append(f"{path}.{key} is gone")
        return found
    if isinstance(sent, list) and isinstance(stored, list) and len(sent) == len(stored):
        pairs = enumerate(zip(sent, stored, strict=True))
        return [each for at, (a, b) in pairs for each in lost(a, b, f"{path}[{at}]")]
    if sent == stored or _quantity(sent) == _quantity(stored) is not None:
        return []
    return [f"{path}: {sent!r} was sent, {stored!r} is stored"]


def _quantity(value: Any) -> Decimal | None:
    """500m and 0.5, 1Gi and 1024Mi are one quantity, which built-in types write one way."""
    text = str(value)
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    try:
        return Decimal(text.removesuffix(unit)) * Decimal(_UNITS.get(unit, 1))
    except ArithmeticError:
        return None

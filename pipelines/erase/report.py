"""What was found of a user, and what became of it."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """Something in one place."""

    place: str  # a file, or an online store
    what: str  # "3 rows", "1 mention"
    done: str  # "erased", "would be erased", or what is to be done by hand
    left: bool = False  # it is still there, and should not be


@dataclass
class Report:
    """Everything, in the order of finding; with `dry` nothing is changed."""

    dry: bool
    found: list[Found] = field(default_factory=list)

    def erased(self, place: Path | str, what: str, done: str = "erased") -> None:
        self.found.append(Found(str(place), what, f"would be {done}" if self.dry else done))

    def left(self, place: Path | str, what: str, todo: str) -> None:
        self.found.append(Found(str(place), what, todo, left=True))

    @property
    def is_left(self) -> bool:
        return any(each.left for each in self.found)


def counted(number: int, noun: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

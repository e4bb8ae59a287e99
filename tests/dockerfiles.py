"""The Dockerfiles of images/, read."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ("pipeline", "transformer", "triton")
PYTHON_IMAGES = ("pipeline", "transformer")

Instruction = tuple[str, str]


def instructions(name: str) -> list[Instruction]:
    """The Dockerfile's (keyword, rest), comments gone and continued lines joined."""
    text = (ROOT / "images" / name / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line]  # type: ignore[misc]


def rest(name: str, keyword: str) -> list[str]:
    return [text for word, text in instructions(name) if word == keyword]


def environment(name: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for text in rest(name, "ENV") for pair in text.split())


def copied(name: str) -> dict[str, str]:
    """What comes from the context: source -> target."""
    pairs = {}
    for text in rest(name, "COPY"):
        *sources, target = text.split()
        if not sources[0].startswith("--from="):
            pairs |= dict.fromkeys(sources, target)
    return pairs

"""Ways in which a sealed version is no longer what it was, each with what is said of it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

RANKER = "ranker/1/model.onnx"


class Damage(NamedTuple):
    does: Callable[[Path], object]
    says: str


def _one_byte(version: Path) -> None:
    content = bytearray((version / RANKER).read_bytes())
    content[len(content) // 2] ^= 1
    (version / RANKER).write_bytes(bytes(content))


def _truncated(version: Path) -> None:
    content = (version / RANKER).read_bytes()
    (version / RANKER).write_bytes(content[:-1])


def _second_ranker(version: Path) -> None:
    """Triton would load it: by default the latest number serves."""
    (version / "ranker/2").mkdir()
    (version / "ranker/2/model.onnx").write_bytes((version / RANKER).read_bytes())


DAMAGES = {
    "one byte": Damage(_one_byte, f"changed: {RANKER}"),
    "truncated": Damage(_truncated, f"changed: {RANKER}"),
    "missing": Damage(lambda v: (v / "golden.json").unlink(), "missing: golden.json"),
    "extra": Damage(_second_ranker, "not part of it: ranker/2/model.onnx"),
}

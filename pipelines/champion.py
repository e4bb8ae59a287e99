"""The commands that change what serves mark it as the champion, and tell a person."""

from functools import partial
from pathlib import Path

from rich.console import Console

from pipelines.endpoint import lines_on
from tracking.settings import TrackingConfig


def mark_champion(
    version: str,
    home: Path,
    console: Console,
    section: TrackingConfig | None = None,
    folder: Path | None = None,
) -> None:
    """`components.champion.mark_serving`, told on the screen; a command never fails of it."""
    from components.champion import mark_serving

    warn = partial(console.print, style="yellow", highlight=False, markup=False, soft_wrap=True)
    mark_serving(version, home, lines_on(console), warn, section=section, folder=folder)

"""What a Triton server's log says of why it ended."""

import re
from pathlib import Path

from serving.process import log_tail


def telling_lines(log: Path) -> str:
    """The log's errors, without the harmless ones about a missing GPU; its tail if it has none."""
    lines = log_tail(log, lines=200, width=600).splitlines()
    errors = [line for line in lines if re.match(r"\s*(E\d{4} |error: )", line)]
    return "\n".join([line for line in errors if "Cuda" not in line][-8:] or lines[-15:])


def lost_a_port(log: Path) -> bool:
    """Whether it ended because another process listens on one of its ports."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    return "Address already in use" in text or "Socket '" in text

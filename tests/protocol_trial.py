"""A trial that speaks tuning.trial's protocol and trains nothing: its scores come from its values.

For what a search does around its trials, which are real processes, without torch's seconds each.
`score` is reached in `epochs` equal steps; `wait` is a file that it waits for after its first
epoch; `fail` ends it with an error.
"""

import sys
import time
from pathlib import Path

from tuning.trial import GO_ON, tell

EPOCHS = 4


def main() -> int:
    values = dict(argument.removeprefix("--set=").split("=", 1) for argument in sys.argv[1:])
    if "fail" in values:
        print(f"error: {values['fail']}", file=sys.stderr)
        return 1
    for epoch in range(EPOCHS):
        tell({"epoch": epoch, "ndcg@10": float(values["score"]) * (epoch + 1) / EPOCHS})
        while values.get("wait") and not Path(values["wait"]).exists():
            time.sleep(0.02)
        if sys.stdin.readline().strip() != GO_ON:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What `kuberec items refresh` has done, for a person or a program."""

import json
from typing import Any

from rich.console import Console


def show(found: dict[str, Any], console: Console, as_json: bool) -> None:
    """Print it."""
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    for reason, rows in found["rejected"].items():
        say(f"  {rows:,} rows cannot be used: {reason}")
    if found["gone"]:
        say(f"  {found['gone']:,} known items are not in the source any more; they stay")
    new = found["new"]
    if not new:
        say(f"no new items among {found['read']:,}: nothing to do")
        return
    say(f"{len(new):,} new items:")
    for item, title in zip(new, found["titles"], strict=False):
        say(f"  {item}  {title}")
    if len(new) > len(found["titles"]):
        say(f"  and {len(new) - len(found['titles']):,} more")
    if found["version"] is None:
        say("nothing was changed (--dry-run)")
        return
    say(f"model version {found['version']}: {found['parent']} with {len(new):,} more items")
    if found["rollout"] is None:
        say(f"it lies in {found['directory']} and is not rolled out")
    elif "inference_service" in found["rollout"]:  # of a cluster: `kuberec rollback` is not for it
        say(
            f"it serves at {found['rollout']['url']}; back to the one before: "
            "kuberec deploy CONFIG --version-dir FOLDER, of that version"
        )
    else:
        say(f"it serves at {found['rollout']['url']}; back to the one before: kuberec rollback")

"""kubectl against the cluster of KUBECONFIG: the tests' one way to it, as a user's."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]


class KubectlFailed(Exception):
    """A command that did not exit with 0; the message is what it wrote to stderr."""


class Kubectl:
    """Runs kubectl; every call may take `timeout_s`."""

    def __init__(self, timeout_s: float = 120.0) -> None:
        self._timeout_s = timeout_s

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """stdout of `kubectl ARGUMENTS`.

        Raises:
            KubectlFailed: it failed, or took too long.
        """
        try:
            done = subprocess.run(
                [program(), *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=self._timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlFailed(
                f"kubectl {' '.join(arguments)}: no answer in {self._timeout_s} s"
            ) from error
        if done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(
        self, objects: Sequence[Object], manager: str = "kubectl", *options: str
    ) -> list[Object]:
        """Server-side apply with strict validation; the objects as they are stored then."""
        answer = self.run(
            *("apply", "--server-side", "--validate=strict", f"--field-manager={manager}"),
            *(*options, "-o", "json", "-f", "-"),
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}),
        )
        return _items(answer)

    def get(self, kind: str, name: str, namespace: str) -> Object:
        found: Object = json.loads(self.run("get", kind, name, "-n", namespace, "-o", "json"))
        return found

    def read(self, objects: Sequence[Object]) -> list[Object]:
        """The same objects, as they are stored now and in the same order."""
        answer = self.run(
            *("get", "-o", "json", "-f", "-"),
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}),
        )
        return _items(answer)


def program() -> str:
    """Path of kubectl, or "kubectl" where there is none."""
    return shutil.which("kubectl") or "kubectl"


def _items(answer: str) -> list[Object]:
    found = json.loads(answer)
    items: list[Object] = found["items"] if found["kind"] == "List" else [found]
    return items

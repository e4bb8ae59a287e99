"""What `kuberec deploy` hands on to the rollout."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines import deploy
from pipelines.cli import app

CONFIG = Path(__file__).parents[2] / "pipelines/configs/movielens-100k.yaml"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"force": False, "canary": True}),
        (["--no-canary"], {"force": False, "canary": False}),
        (["--force"], {"force": True, "canary": True}),
    ],
)
def test_options(
    options: list[str], expected: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def rollout(version_dir: Path, *_: object, **options: Any) -> dict[str, Any]:
        given.update(options, version_dir=version_dir)
        names = ("version", "url", "grpc_url", "storage_uri")
        return dict.fromkeys(names, "one") | {"reused": False, "rows": []}

    monkeypatch.setenv("KUBEREC_HOME", str(tmp_path))
    monkeypatch.setattr(deploy, "rollout", rollout)
    command = ["deploy", str(CONFIG), "--version-dir", str(tmp_path / "v1"), *options]

    done = CliRunner().invoke(app, command)

    assert done.exit_code == 0, done.output
    assert given == expected | {"version_dir": tmp_path / "v1"}
    assert "one serves at one" in done.output

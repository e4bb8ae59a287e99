"""images/build.sh: what it asks of a container engine, and what it says without one."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dockerfiles import IMAGES, ROOT


def build(
    *names: str, path: str = os.environ["PATH"], **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", ROOT / "images" / "build.sh", *names],
        capture_output=True,
        text=True,
        env={"PATH": path, **settings},
    )


@pytest.fixture
def engine(tmp_path) -> Path:
    """Stands in for podman, which no CI machine need have: prints what it is asked for."""
    program = tmp_path / "podman"
    program.write_text(
        '#!/bin/sh\n[ "$2" != --digestfile ] || printf sha256:%064d 7 > "$3"\necho "podman: $*"\n'
    )
    program.chmod(0o755)
    return program


def test_images_are_tagged_labelled_and_named_by_digest(engine):
    done = build("--push", "pipeline", "triton", ENGINE=str(engine), REGISTRY="reg.example/team/")
    assert done.returncode == 0, done.stderr
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    name = f"reg.example/team/kuberec/pipeline:{version}"
    (line,) = [each for each in done.stdout.splitlines() if f"-t {name} ." in each]
    assert line.startswith("podman: build ")
    assert "-f images/pipeline/Dockerfile" in line
    labels = dict(re.findall(r"--label org\.opencontainers\.image\.(\w+)=(\S*)", line))
    assert labels["version"] == version
    (revision,) = re.findall(r"--build-arg KUBEREC_REVISION=(\S+)", line)
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", revision)
    assert "revision" not in labels  # the Dockerfile's, from the same argument
    assert re.match(r"\d{4}-\d\d-\d\dT", labels["created"])
    assert labels["source"]
    digest = "sha256:" + "7".zfill(64)
    assert f"--image reg.example/team/kuberec/pipeline@{digest}" in done.stdout
    assert f"  reg.example/team/kuberec/triton@{digest}" in done.stdout
    assert "kuberec/transformer" not in done.stdout


def test_bases_data_and_flags_can_be_chosen(engine):
    done = build(
        ENGINE=str(engine), TAG="dev", PYTHON_BASE="m.example/python:1", DATA="0",
        TRITON_BASE="m.example/triton:2", IMAGE_FLAGS="--no-cache --secret id=pip.conf",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = {
        name: next(line for line in done.stdout.splitlines() if f"-t kuberec/{name}:dev ." in line)
        for name in IMAGES
    }
    assert all("--no-cache --secret id=pip.conf" in line for line in lines.values())
    assert "BASE=m.example/triton:2" in lines["triton"]
    assert "BASE=m.example/python:1" in lines["transformer"]
    assert "BASE=m.example/python:1" in lines["pipeline"]
    assert "--build-arg DATA= " in lines["pipeline"]
    assert "DATA=" not in lines["transformer"]


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["models"], {}, "no image 'models'"),
        (["--push"], {"ENGINE": "true"}, "REGISTRY="),
        ([], {"ENGINE": "false"}, "false info"),
        ([], {"ENGINE": "no-such-engine"}, "no-such-engine"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(names, settings, message):
    done = build(*names, **settings)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_machine_without_an_engine_is_told_what_to_install(tmp_path):
    for tool in ("dirname", "sed", "git", "date"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = build(path=str(tmp_path))
    assert done.returncode == 1
    assert "neither docker nor podman" in done.stderr
    assert done.stderr.count("\n") == 1

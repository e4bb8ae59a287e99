"""The Dockerfiles of images/, as far as no container engine is needed."""

import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.dockerfiles import (
    IMAGES,
    PYTHON_IMAGES,
    ROOT,
    copied,
    environment,
    instructions,
    rest,
)
from tracking.source_code import REVISION_VARIABLE


@pytest.mark.parametrize("name", IMAGES)
def test_hadolint_finds_nothing(name):
    hadolint = Path(sys.executable).with_name("hadolint")
    path = ROOT / "images" / name / "Dockerfile"
    done = subprocess.run([hadolint, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", IMAGES)
def test_bases_are_pinned_and_can_be_replaced(name):
    assert {text.split()[0] for text in rest(name, "FROM")} == {"${BASE}"}
    base = next(text for text in rest(name, "ARG") if text.startswith("BASE=")).removeprefix(
        "BASE="
    )
    registry, _, tag = base.partition("/")
    assert "." in registry  # podman asks for a whole name
    assert re.search(r":[\w.-]*\d", tag)
    assert ":latest" not in tag
    if name in PYTHON_IMAGES:
        assert re.search(r"@sha256:[0-9a-f]{64}$", base)
        assert ":3.11" in tag


def test_both_python_images_share_their_base():
    bases = [rest(name, "ARG")[0] for name in PYTHON_IMAGES]
    assert bases[0] == bases[1]


@pytest.mark.parametrize("name", IMAGES)
def test_nobody_is_root_and_only_tmp_is_written(name):
    words = instructions(name)
    user = max(i for i, (word, _) in enumerate(words) if word == "USER")
    assert words[user][1] == "1000:1000"
    assert not [text for word, text in words[user:] if word in {"RUN", "COPY", "ADD"}]
    for variable, value in environment(name).items():
        if variable.endswith(("HOME", "_DIR", "CACHE_PATH", "CONFIGDIR")):
            assert value.startswith("/tmp"), variable
    assert environment(name)["HOME"] == "/tmp"
    assert environment(name)["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment(name)["PYTHONDONTWRITEBYTECODE"] == "1"


@pytest.mark.parametrize("name", IMAGES)
def test_labels_say_what_it_is(name):
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', rest(name, "LABEL")[0])
    )
    assert labels["title"] == f"kuberec/{name}"
    assert labels["licenses"].startswith("Apache-2.0")


@pytest.mark.parametrize("name", IMAGES)
def test_the_commit_is_an_argument_in_label_and_environment(name):
    """After the last layer of files, which another commit would make anew."""
    assert environment(name)[REVISION_VARIABLE] == f"${{{REVISION_VARIABLE}}}"
    said = f'org.opencontainers.image.revision="${{{REVISION_VARIABLE}}}"'
    assert said in rest(name, "LABEL")[0]
    words = instructions(name)
    place = words.index(("ARG", f"{REVISION_VARIABLE}=unknown"))
    assert not [text for word, text in words[place:] if word in {"FROM", "RUN", "COPY"}]


@pytest.mark.parametrize("name", IMAGES)
def test_no_secret_can_stay_in_a_layer(name):
    secret = re.compile(r"passw|token|secret|credential|api_?key|access_?key|://[^/\s]+@", re.I)
    for word, text in instructions(name):
        if word in {"ARG", "ENV", "LABEL", "COPY"}:
            assert not secret.search(text), text
    # Those of a package mirror are mounted, never copied.
    for text in rest(name, "RUN"):
        assert not secret.search(text.replace("--mount=type=secret", "")), text


@pytest.mark.parametrize("name", PYTHON_IMAGES)
def test_every_installed_package_is_hashed(name):
    """Each install and sync has the flag, by itself or by `set --`, and reads locks only."""
    (command,) = [text for text in rest(name, "RUN") if "uv pip sync" in text]
    assert "--require-hashes" in command
    assert set(re.findall(r"/locks/(\S+\.txt)", command)) <= {
        *(Path(source).name for source in copied(name) if source.startswith("requirements/")),
        "build.txt",  # an extract of main.txt
    }


def test_only_one_package_is_built_from_source():
    """Hashes cover what it is built with only as long as its name is known."""
    (command,) = [text for text in rest("pipeline", "RUN") if "uv pip sync" in text]
    assert "--only-binary :all: --no-binary kfp-server-api" in command
    assert "--no-build-isolation" in command
    (command,) = [text for text in rest("transformer", "RUN") if "uv pip sync" in text]
    assert "--no-build" in command


@pytest.mark.parametrize("name", IMAGES)
def test_every_copied_path_exists_and_reaches_the_build(name):
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines  # nothing but what is named
    wanted = [line[1:] for line in lines if line.startswith("!")]
    for source in copied(name):
        path = source.rstrip("/")
        assert (ROOT / path).exists(), source
        below = [path, f"{path}/main.txt"]
        assert any(fnmatch.fnmatch(each, want) for each in below for want in wanted), source


def test_data_environments_and_history_stay_out_of_the_build():
    wanted = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    for path in (".git", ".venv", ".venv-triton", ".kuberec", "runs", "tests", "docs", ".env"):
        assert not any(fnmatch.fnmatch(path, want) for want in wanted), path


def test_triton_starts_as_the_manifests_have_it():
    def flags(lines: list[str]) -> dict[str, str]:
        return dict(line.removeprefix("--").partition("=")[::2] for line in lines)

    (runtime,) = [
        document
        for path in (ROOT / "manifests" / "base").rglob("*.yaml")
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document and document.get("kind") == "ServingRuntime"
    ]
    (container,) = [c for c in runtime["spec"]["containers"] if c["name"] == "kserve-container"]
    ours, theirs = flags(json.loads(rest("triton", "CMD")[0])), flags(container["args"])
    assert json.loads(rest("triton", "ENTRYPOINT")[0]) == ["tritonserver"]
    # A key for load and unload exists in a pod only, so without one the image refuses them.
    assert ours.pop("model-control-mode") == "none"
    assert ours.items() <= theirs.items()

"""The Dockerfiles of images/ and their build script, as far as no container engine is needed."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("pipeline", "transformer", "triton")
PYTHON_IMAGES = ("pipeline", "transformer")
INTERPRETERS = {"pipeline": ".venv", "transformer": ".venv-transformer"}

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
def test_labels_say_what_it_was_built_from(name):
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', rest(name, "LABEL")[0])
    )
    assert labels["revision"] == "${REVISION}"
    assert labels["version"] == "${VERSION}"
    assert labels["created"] == "${CREATED}"
    assert labels["source"] == "${SOURCE}"
    assert labels["licenses"].startswith("Apache-2.0")


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


@pytest.fixture(scope="module")
def file_sets(tmp_path_factory):
    """What each image has of the project, in a folder of its own."""
    folders = {}
    for name in PYTHON_IMAGES:
        folders[name] = folder = tmp_path_factory.mktemp(name)
        for source, target in copied(name).items():
            if not target.startswith("/opt/kuberec"):
                continue
            place = folder / Path(target).relative_to("/opt/kuberec")
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, place, ignore=ignore, dirs_exist_ok=True)
    return folders


def run(name: str, folder: Path, program: str, tmp_path: Path) -> str:
    """A program by the image's environment and its files, without this checkout on the path."""
    start = (
        "import os, runpy, sys\n"
        f"sys.path[:] = [{str(folder)!r}, *(p for p in sys.path if p != {str(ROOT)!r})]\n"
    )
    interpreter = ROOT / INTERPRETERS[name] / "bin" / "python"
    settings = {k: v for k, v in environment(name).items() if k not in {"PATH", "HOME"}}
    done = subprocess.run(
        [interpreter, "-c", start + program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **settings},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_transformer_starts_with_its_files_alone(file_sets, tmp_path):
    program = (
        "sys.argv[1:] = ['--help']\nrunpy.run_module('serving.transformer', run_name='__main__')"
    )
    assert "--predictor_host" in run("transformer", file_sets["transformer"], program, tmp_path)


def test_every_module_of_the_transformer_and_the_stores_can_be_imported(file_sets, tmp_path):
    folder = file_sets["transformer"]
    modules = [
        f"serving.transformer.{p.stem}" for p in (folder / "serving/transformer").glob("*.py")
    ]
    modules += ["feature_repo.store", "feature_repo.online_reader", "serving.version"]
    program = (
        f"import importlib, json\nfor each in {modules!r}: importlib.import_module(each)\n"
        "rooms = ('serving', 'recommender', 'feature_repo')\n"
        "print(json.dumps([[sys.modules[r].__file__ for r in rooms], 'torch' in sys.modules]))"
    )
    files, torch = json.loads(run("transformer", folder, program, tmp_path))
    assert all(file.startswith(str(folder)) for file in files)
    assert not torch


def test_the_pipelines_steps_and_command_work_with_its_files_alone(file_sets, tmp_path):
    folder = file_sets["pipeline"]
    rooms = [each.rstrip("/") for each in copied("pipeline") if each.endswith("/")]
    program = (
        "import importlib, pkgutil, json\n"
        "for room in ('components', 'pipelines'):\n"
        "    package = importlib.import_module(room)\n"
        "    for each in pkgutil.walk_packages(package.__path__, room + '.'):\n"
        "        importlib.import_module(each.name)\n"
        "from components.image import source_hash\n"
        f"files = [m.__file__ for n, m in list(sys.modules.items()) if n.split('.')[0] in {rooms!r}"
        " and getattr(m, '__file__', None)]\n"
        "print(json.dumps([files, source_hash('recommender', 'serving')]))"
    )
    files, fingerprint = json.loads(run("pipeline", folder, program, tmp_path))
    assert files
    assert all(file.startswith(str(folder)) for file in files)
    assert re.fullmatch(r"[0-9a-f]{16}", fingerprint)

    command = ROOT / "images" / "pipeline" / "kuberec"
    assert os.access(command, os.X_OK)
    program = f"sys.argv = ['kuberec', '--help']\nrunpy.run_path({str(command)!r})"
    assert "compile" in run("pipeline", folder, program, tmp_path)


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
    assert re.search(rf"VERSION={re.escape(version)} .*REVISION=\S+ .*CREATED=\d{{4}}-\S+ ", line)
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

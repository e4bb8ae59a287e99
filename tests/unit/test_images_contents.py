"""What the Python images have of the project is enough: run with their files and environments."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dockerfiles import PYTHON_IMAGES, ROOT, copied, environment

INTERPRETERS = {"pipeline": ".venv", "transformer": ".venv-transformer"}


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
    modules += ["feature_repo.store", "feature_repo.online.reader", "serving.version"]
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

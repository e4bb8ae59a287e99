"""Where the embedded Triton lives: its environment, and the backend folder made from it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from recommender.errors import KuberecError
from recommender.files import atomic_directory, fingerprint, sha256_file

VARIABLE = "KUBEREC_TRITON_ENV"
_BACKEND = Path(__file__).parent / "backend" / "model.py"
_PROBE = """
import json, sys, sysconfig
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2], "prefix": sys.base_prefix,
    "site": sysconfig.get_path("purelib"),
    "libdir": sysconfig.get_config_var("LIBDIR") or "",
    "multiarch": sysconfig.get_config_var("MULTIARCH") or "",
}))
"""


class TritonMissing(KuberecError):
    """The environment of the embedded Triton, or a part of it, is not there."""


class TritonEnvironment(NamedTuple):
    """The parts that a server process is put together from."""

    python_version: str
    prefix: Path  # of the Python that the environment was made with
    site: Path
    libpython: Path

    @property
    def server(self) -> Path:
        return self.site / "pytriton/tritonserver/bin/tritonserver"

    @property
    def stub(self) -> Path:
        stubs = self.site / "pytriton/tritonserver/python_backend_stubs"
        return stubs / self.python_version / "triton_python_backend_stub"

    @property
    def caches(self) -> Path:
        return self.site / "pytriton/tritonserver/caches"

    def variables(self) -> dict[str, str]:
        """Environment variables of the server process.

        The stub's Python looks for its library beside the first `python3` on PATH: without the two
        settings here an activated environment's numpy 2 would be found, which the stub dies of.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        libraries = [str(self.site / "nvidia_pytriton.libs"), str(self.libpython.parent)]
        return kept | {
            "PYTHONHOME": str(self.prefix),
            "PATH": f"{self.prefix}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "ORT_DISABLE_TELEMETRY": "1",  # as in recommender/onnx_session.py
            "KUBEREC_TRITON_SITE": str(self.site),
        }


def find_environment() -> TritonEnvironment:
    """The environment named by KUBEREC_TRITON_ENV, by default `.venv-triton` beside the packages.

    Raises:
        TritonMissing: saying what to install.
    """
    default = Path(__file__).resolve().parents[2] / ".venv-triton"
    root = Path(os.environ.get(VARIABLE) or default)
    python = root / "bin" / "python"
    if not python.exists():
        raise TritonMissing(
            f"the embedded Triton is not installed in '{root}': run `make install`, "
            f"or name its environment in {VARIABLE}"
        )
    if not sys.platform.startswith("linux"):
        raise TritonMissing(f"the embedded Triton runs on Linux only, not on {sys.platform}")
    probe = subprocess.run(
        [str(python), "-I", "-c", _PROBE], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        raise TritonMissing(f"'{python}' does not run: {probe.stderr.strip()[-300:]}")
    facts = json.loads(probe.stdout)
    environment = TritonEnvironment(
        facts["version"], Path(facts["prefix"]), Path(facts["site"]), _find_libpython(facts)
    )
    for part in (environment.server, environment.stub):
        if not part.exists():
            raise TritonMissing(f"'{root}' is incomplete ('{part}' is missing): run `make install`")
    return environment


def _find_libpython(facts: dict[str, str]) -> Path:
    name = f"libpython{facts['version']}.so.1.0"
    prefix, multiarch = Path(facts["prefix"]), facts["multiarch"]
    homes = [Path(facts["libdir"] or prefix), prefix / "lib", Path("/usr/lib"), Path("/usr/lib64")]
    folders = [folder for home in homes for folder in (home, home / multiarch)]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    version = facts["version"]
    looked = ", ".join(dict.fromkeys(map(str, folders)))
    raise TritonMissing(
        f"the embedded Triton needs the shared library {name}, found in none of: {looked}\n"
        f"Install it (Debian, Ubuntu: `apt install libpython{version}`; Fedora: `dnf install "
        f"python{version}-libs`; pyenv: `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install "
        f"{version}`), or make the environments with a Python that has it: "
        "`make clean install PYTHON=/path/to/python`"
    )


def backend_directory(environment: TritonEnvironment, state: Path) -> Path:
    """The folder for --backend-directory, made below `state` if it is not there yet.

    Named by its content: an update makes a new one and running servers keep theirs.
    """
    python_backend = environment.site / "pytriton/tritonserver/backends/python"
    content = [sha256_file(_BACKEND), sha256_file(environment.stub), environment.python_version]
    target = Path(state) / "backends" / fingerprint(content)[:12]
    if not target.is_dir():
        with atomic_directory(target) as draft:
            shutil.copytree(python_backend, draft / "python")
            shutil.copy2(environment.stub, draft / "python")
            (draft / "onnxruntime").mkdir()
            shutil.copyfile(_BACKEND, draft / "onnxruntime" / "model.py")
    return target

"""Finding the embedded Triton, and what is said when a part of it is missing."""

import shutil
import sys
from pathlib import Path

import pytest

from serving.triton.environment import (
    TritonMissing,
    _find_libpython,
    backend_directory,
    find_environment,
)


def test_missing_environment_says_make_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEREC_TRITON_ENV", str(tmp_path / "nowhere"))
    with pytest.raises(TritonMissing, match=r"not installed in .*nowhere.*make install"):
        find_environment()


def test_incomplete_environment_names_the_missing_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    monkeypatch.setenv("KUBEREC_TRITON_ENV", str(tmp_path))
    with pytest.raises(TritonMissing, match=r"(is incomplete .*tritonserver|shared library)"):
        find_environment()


def test_missing_libpython_says_what_to_install(tmp_path: Path) -> None:
    facts = {"version": "3.99", "prefix": str(tmp_path), "libdir": "", "multiarch": "x86_64-linux"}
    with pytest.raises(TritonMissing) as error:
        _find_libpython(facts)
    assert "libpython3.99.so.1.0" in str(error.value)
    assert "apt install libpython3.99" in str(error.value)
    (tmp_path / "lib/x86_64-linux").mkdir(parents=True)
    library = tmp_path / "lib/x86_64-linux/libpython3.99.so.1.0"
    library.touch()
    assert _find_libpython(facts) == library


def test_backend_directory_is_made_once_and_named_by_content(tmp_path: Path) -> None:
    environment = find_environment()
    folder = backend_directory(environment, tmp_path)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert "onnxruntime/model.py" in names
    assert "python/libtriton_python.so" in names
    assert (folder / "python/triton_python_backend_stub").stat().st_mode & 0o100
    assert backend_directory(environment, tmp_path) == folder
    shutil.rmtree(folder)
    assert backend_directory(environment, tmp_path) == folder


def test_an_activated_environment_does_not_leak_into_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    environment = find_environment()
    variables = environment.variables()
    assert "VIRTUAL_ENV" not in variables
    assert "PYTHONPATH" not in variables
    assert variables["PATH"].startswith(f"{environment.prefix}/bin:")

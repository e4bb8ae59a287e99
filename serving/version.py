"""A sealed model version: kuberec.json has every file's sha256, golden.json some answers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recommender.errors import KuberecError
from recommender.files import read_json, sha256_tree, write_json
from serving.triton.engine.record import check_engines
from serving.triton.repository import MODELS, graph_path, read_shapes

MANIFEST, GOLDEN = "kuberec.json", "golden.json"
# A published version has the feature registry as of its rollout beside its files. It is not part
# of the version's content, which says nothing about where features are stored.
REGISTRY = "feature_registry.db"


class VersionError(KuberecError):
    """A folder that is no model version, or no longer the one that was sealed."""


class GoldenAnswer(BaseModel):
    """K items, best first, and their scores."""

    item_ids: list[str]
    scores: list[float]


class GoldenRequest(BaseModel):
    """One request with the answers that the version's graphs gave in ONNX Runtime on a CPU.

    `item_ids` and `scores` are those of the ranker that serves on CPUs, `gpu` those of the one for
    GPUs; without it where a version has no such graph, or was sealed by earlier code.
    """

    history: list[str]
    exclude: list[str] = []
    history_times: list[int] = []  # of `history`, seconds since 1970; of versions that read them
    item_ids: list[str]
    scores: list[float]
    gpu: GoldenAnswer | None = None

    def asked(self) -> dict[str, Any]:
        """The request alone, JSON-ready; without times where it has none."""
        times = {"history_times": self.history_times} if self.history_times else {}
        return {"history": self.history, "exclude": self.exclude} | times


class ModelVersion(BaseModel):
    """kuberec.json, with the folder that it was read from."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    # It becomes a folder name and part of process arguments.
    version: str = Field(pattern=r"^[0-9a-z][0-9a-z-]{0,62}$")
    k: int
    max_length: int
    max_seen: int
    times: bool = False  # whether the ranker reads the times of a history's events
    created: str
    files: dict[str, str]
    directory: Path = Field(Path(), exclude=True)

    def golden(self) -> list[GoldenRequest]:
        """The golden requests with their answers."""
        return [GoldenRequest.model_validate(each) for each in read_json(self.directory / GOLDEN)]

    def verify(self) -> None:
        """Raise VersionError, naming every file that is changed, missing or not part of it.

        Engines that were built for it are checked by engines.json (serving.triton.engine.record).
        """
        found = sha256_tree(self.directory)
        for name in {MANIFEST, REGISTRY} - self.files.keys():
            found.pop(name, None)
        wrong = check_engines(self.directory, self.version, found)
        wrong += [f"missing: {name}" for name in sorted(self.files.keys() - found.keys())]
        wrong += [f"not part of it: {name}" for name in sorted(found.keys() - self.files.keys())]
        wrong += [
            f"changed: {name}"
            for name in self.files
            if found.get(name, "") not in ("", self.files[name])
        ]
        if wrong:
            listed = "\n  ".join(wrong)
            raise VersionError(
                f"model version {self.version} in '{self.directory}' is not as it was exported:\n"
                f"  {listed}\nExport it again, or copy it again from where it came."
            )


def write_manifest(
    directory: Path, version: str, golden: Sequence[GoldenRequest], facts: dict[str, Any]
) -> ModelVersion:
    """Seal a model repository: golden.json, then kuberec.json with the sha256 of every file.

    Args:
        directory: as `write_repository` left it.
        version: the content-based id.
        golden: requests and answers (`serving.parity.golden_answers`).
        facts: what else kuberec.json carries: config, data_fingerprint, metrics, ledger, parity.
    """
    directory = Path(directory)
    shapes = read_shapes(**{model: graph_path(directory, model) for model in MODELS})
    # Without times, a version's files are those of a time when no version had any.
    kept = {"item_ids", "scores", "gpu"}
    answers = [each.asked() | each.model_dump(include=kept, exclude_none=True) for each in golden]
    write_json(directory / GOLDEN, answers)
    files = sha256_tree(directory)
    files.pop(MANIFEST, None)
    manifest = facts | {
        "version": version,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": files,
        **{name: value for name, value in shapes._asdict().items() if value is not False},
    }
    write_json(directory / MANIFEST, manifest)
    return load_version(directory)


def load_version(directory: Path, verify: bool = True) -> ModelVersion:
    """Read a model version, and by default check every file against its sha256.

    Raises:
        VersionError: no or an unreadable kuberec.json, or files that are not as sealed.
    """
    directory = Path(directory)
    path = directory / MANIFEST
    if not path.is_file():
        raise VersionError(f"'{directory}' is not a model version: it has no {MANIFEST}")
    try:
        version = ModelVersion.model_validate(read_json(path))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        raise VersionError(f"'{path}' is not a model version's manifest: {problems}") from error
    except ValueError as error:
        raise VersionError(f"'{path}' is not readable JSON: {error}") from error
    version.directory = directory
    if verify:
        version.verify()
    return version

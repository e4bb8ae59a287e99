"""What docs/DESIGN.md says of rooms and environments holds."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "recommender",
    "ingestion",
    "feature_repo",
    "serving",
    "reporting",
    "tracking",
    "tuning",
    "components",
    "pipelines",
)
# Of the project, each room may import itself and these.
ALLOWED = {
    "recommender": set(),
    "ingestion": {"recommender"},
    "feature_repo": {"recommender"},
    "serving": {"recommender", "feature_repo"},
    "reporting": {"recommender", "feature_repo", "serving"},
    "tracking": {"recommender"},
    "tuning": {"recommender"},
    "components": {
        "recommender",
        "ingestion",
        "feature_repo",
        "serving",
        "reporting",
        "tracking",
        "tuning",
    },
    "pipelines": set(ROOMS),
}
PLATFORM = {"kfp", "feast", "great_expectations", "kserve", "kubernetes", "mlflow", "optuna"}


def imports(room: str) -> set[str]:
    names = set()
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room):
    assert imports(room) & set(ROOMS) <= ALLOWED[room] | {room}


def test_of_serving_only_who_needs_features_knows_their_room():
    """The transformer reads them; a cluster's model store publishes the registry with a version."""
    readers = [
        path.relative_to(ROOT / "serving").parts[0]
        for path in (ROOT / "serving").rglob("*.py")
        if "from feature_repo" in path.read_text(encoding="utf-8")
    ]
    assert set(readers) <= {"transformer", "kubernetes"}


def test_what_rolls_out_stands_on_what_serves_and_not_the_other_way_round():
    for room in ("client", "embedded", "kubernetes", "transformer", "triton"):
        for path in (ROOT / "serving" / room).rglob("*.py"):
            found = "serving.rollout" in path.read_text(encoding="utf-8")
            assert not found, path


def test_the_model_needs_no_platform():
    assert not imports("recommender") & PLATFORM


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", text, re.MULTILINE))


LOCKS = sorted(path.stem for path in (ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes_and_names_no_host(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(locked(name)) > 0
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text


def test_the_transformer_needs_no_torch_and_the_trainer_no_kserve():
    transformer, trainer = locked("transformer"), locked("trainer")
    assert "kserve" in transformer
    assert "torch" not in transformer
    assert "torch" in trainer
    assert "kserve" not in trainer


def test_the_environments_of_one_machine_agree():
    main, dev, trainer = locked("main"), locked("dev"), locked("trainer")
    for other in (dev, trainer):
        assert not {name for name in main.keys() & other if main[name] != other[name]}


def test_the_readme_shows_what_a_run_prints():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not re.search(r"@[A-Z]+@", text)
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).is_file(), link

"""The serving settings that a rollout leaves for later commands."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from recommender.errors import KuberecError
from recommender.files import write_json
from serving.settings import ServingConfig, load_settings, save_settings


def test_later_commands_find_the_settings_of_the_rollout(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == ServingConfig()
    save_settings(tmp_path, ServingConfig(port=9000))
    assert load_settings(tmp_path).port == 9000
    assert load_settings(tmp_path, port=9001).port == 9001


def test_settings_with_unknown_keys_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "serving" / "settings.json"
    path.parent.mkdir()
    write_json(path, {"triton": {"gone": 1}})
    with pytest.raises(KuberecError, match=r"triton\.gone: .*delete '.*settings\.json'"):
        load_settings(tmp_path)


def test_damaged_settings_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "serving" / "settings.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(KuberecError, match=r"settings\.json' is not readable .*delete it"):
        load_settings(tmp_path)


def test_keys_that_are_gone_are_dropped_at_their_defaults_and_else_explained() -> None:
    gone = {"min_overlap": 1.0, "min_gateway_overlap": 0.99, "max_score_difference": 1e-3}
    assert ServingConfig.model_validate({"port": 9000, **gone}) == ServingConfig(port=9000)
    with pytest.raises(ValidationError, match=r"max_score_difference is no key.*parity\.triton"):
        ServingConfig.model_validate({**gone, "max_score_difference": 0.1})

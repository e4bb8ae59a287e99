"""The sweep of batching settings, on a real Triton: each setting is really the one measured."""

from pathlib import Path

import pytest
from tiny_version import catalogue, write_tiny_version

from benchmarks.batching import LEVELS, Bench, Setting
from recommender.files import sha256_tree
from serving.triton.configs import read_config
from serving.triton.repository import EMBEDDED, ENSEMBLE, config_path

pytestmark = pytest.mark.timeout(60)


def test_a_sweep_measures_its_settings_and_leaves_the_version_alone(tmp_path: Path) -> None:
    version = write_tiny_version(tmp_path / "v", catalogue(), "0123456789ab")
    before = sha256_tree(version)
    setting = Setting(instances=2, preferred=(4,), delay_us=300)
    bench = Bench(version, tmp_path, seconds=0.2, warm_s=0.1)
    results = bench.sweep([setting], rounds=1)
    assert list(results[setting]) == list(LEVELS)
    assert all(figures["answers"] for figures in results[setting].values())
    measured = read_config(config_path(tmp_path / "repository", ENSEMBLE, EMBEDDED))
    assert list(measured.dynamic_batching.preferred_batch_size) == [4]
    assert measured.dynamic_batching.max_queue_delay_microseconds == 300
    assert measured.instance_group[0].count == 2
    assert sha256_tree(version) == before

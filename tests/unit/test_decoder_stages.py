"""A decoder that ONNX has no graph for: measured in torch where it is distilled, else refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoder_folders import decoder_config, decoder_folder
from recommender_data import ITEMS, TEXT_DIM, vocabulary

from recommender.compression.candidate import Candidate, Work
from recommender.compression.kept import Stage, stage_name
from recommender.compression.quality import Gains
from recommender.compression.rankers import TORCH
from recommender.compression.stages import FULL, Stages
from recommender.errors import KuberecError
from recommender.export import NoGraph
from recommender.files import read_json
from recommender.model import SequentialRecommender
from recommender.settings import DistilStep, EvaluationConfig, ExportConfig, QuantiseStep


class Airy(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.airy_ai(x)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> SequentialRecommender:
    torch.manual_seed(0)
    config = decoder_config(decoder_folder(tmp_path_factory.mktemp("decoder")))
    found = SequentialRecommender(config, torch.randn(ITEMS + 1, TEXT_DIM), torch.randn(ITEMS + 1))
    project_out: Any = found.backbone.project_out
    found.backbone.project_out = torch.nn.Sequential(project_out, Airy())
    return found.eval()


def stages(decoder: SequentialRecommender, folder: Path, k: int = 10) -> Stages:
    work = Work(decoder, {}, ExportConfig(k=k, max_seen=20), folder)
    return Stages(work, vocabulary(), EvaluationConfig(), [], folder)


def test_without_a_step_that_distils_it_ends_at_the_first_stage(decoder, tmp_path) -> None:
    with pytest.raises(NoGraph, match="cannot be exported to ONNX: distil it"):
        stages(decoder, tmp_path).all([QuantiseStep()], ["quantise"])
    # Nor is a stage taken that an earlier run, with a student, has measured in torch.
    folder = tmp_path / stage_name([])
    folder.mkdir()
    row = {"step": FULL, "runtime": TORCH, "curve": []}
    Stage(Candidate(decoder), folder, Gains(np.ones(2), np.ones(2)), row).save(vocabulary())
    with pytest.raises(NoGraph):
        stages(decoder, tmp_path).all([QuantiseStep()], ["quantise"])
    assert read_json(folder / "stage.json")["row"] == row  # for a config that distils


def test_what_is_wrong_with_the_settings_is_no_missing_graph(decoder, tmp_path) -> None:
    """It would be so of the student too, hours later."""
    with pytest.raises(KuberecError, match=rf"export\.k = {ITEMS + 1} is more than"):
        stages(decoder, tmp_path, k=ITEMS + 1).all([DistilStep()], ["distil"])


def test_before_a_student_it_is_measured_in_torch(decoder, tmp_path) -> None:
    place = stages(decoder, tmp_path)._written(Candidate(decoder), tmp_path, in_torch=True)
    assert place == tmp_path / TORCH
    assert (place / "model.safetensors").is_file()

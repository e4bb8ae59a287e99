"""Config sections of this room's steps; light to import, so that a YAML is checked in no time.

The defaults of model, training and distillation are those found on MovieLens-100K
(docs/RESULTS.md).
"""

from recommender.settings.compression import (
    CompressionConfig,
    DistilStep,
    LearningConfig,
    QuantiseStep,
)
from recommender.settings.evaluation import BehaviourConfig, EvaluationConfig
from recommender.settings.export import ExportConfig
from recommender.settings.model import ModelConfig
from recommender.settings.text import TextConfig, TfidfConfig
from recommender.settings.training import TrainingConfig

__all__ = [
    "BehaviourConfig",
    "CompressionConfig",
    "DistilStep",
    "EvaluationConfig",
    "ExportConfig",
    "LearningConfig",
    "ModelConfig",
    "QuantiseStep",
    "TextConfig",
    "TfidfConfig",
    "TrainingConfig",
]

"""Config sections of this room's steps; light to import, so that a YAML is checked in no time.

The defaults of model, training and distillation are those found on MovieLens-100K
(docs/RESULTS.md).
"""

from recommender.settings.compression import (
    CompressionConfig,
    DistilStep,
    Int8ItemsStep,
    LearningConfig,
    ProductItemsStep,
    PruneStep,
    QuantiseStep,
    RecoveryConfig,
    SparsifyStep,
)
from recommender.settings.evaluation import BehaviourConfig, EvaluationConfig
from recommender.settings.export import ExportConfig
from recommender.settings.model import BlockShape, ModelConfig
from recommender.settings.text import TextConfig, TfidfConfig
from recommender.settings.training import TrainingConfig

__all__ = [
    "BehaviourConfig",
    "BlockShape",
    "CompressionConfig",
    "DistilStep",
    "EvaluationConfig",
    "ExportConfig",
    "Int8ItemsStep",
    "LearningConfig",
    "ModelConfig",
    "ProductItemsStep",
    "PruneStep",
    "QuantiseStep",
    "RecoveryConfig",
    "SparsifyStep",
    "TextConfig",
    "TfidfConfig",
    "TrainingConfig",
]

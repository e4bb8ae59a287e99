"""The text section of a run's YAML."""

import pytest
import yaml
from pydantic import ValidationError

from recommender.settings import TextConfig


@pytest.mark.parametrize(
    ("written", "features"),
    [
        ("{}", ["encoder"]),
        ("features: [encoder]", ["encoder"]),
        ("features: tfidf-svd", ["tfidf-svd"]),
        ("features: [tfidf-svd, encoder]", ["tfidf-svd", "encoder"]),
        ("features: none", []),
        ("features: []", []),
        ("features:", []),
    ],
)
def test_features(written, features):
    config = TextConfig.model_validate(yaml.safe_load(written))
    assert config.features == features
    assert TextConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"features": ["encoder", "encoder"]}, "names a feature twice: name each once"),
        ({"features": ["tf-idf"]}, "'encoder' or 'tfidf-svd'"),
        ({"precision": "int4"}, "'auto', 'float32', 'bfloat16', 'float16' or 'int8'"),
        ({"device": "gpu"}, "'auto', 'cpu' or 'cuda'"),
        ({"tfidf": {"min_df": 0}}, "greater than 0"),
        ({"tfidf": {"ngrams": 2}}, "tfidf.ngrams"),
    ],
)
def test_what_is_not_allowed_is_said(section, message):
    with pytest.raises(ValidationError, match=message):
        TextConfig.model_validate(section)

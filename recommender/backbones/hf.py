"""Any Hugging Face decoder as a backbone."""

from recommender.backbones.base import Backbone
from recommender.settings import ModelConfig


class HuggingFaceDecoder(Backbone):
    """To be written."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        raise NotImplementedError

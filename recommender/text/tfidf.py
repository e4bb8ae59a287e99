"""TF-IDF vectors of the catalogue's texts, reduced by truncated SVD.

The light alternative to an encoder: seconds on a CPU, no weights to fetch. Latent semantic
analysis (Deerwester et al. 1990): X [items, terms] ≈ U S V', a text's vector is its row of X V.
Nothing is cached an item: the terms' weights and V come from the whole catalogue, so that one new
item moves all vectors. What was fitted is kept, so that a later item can be given a vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recommender.errors import KuberecError
from recommender.files import read_json, write_json
from recommender.settings import TextConfig, TfidfConfig
from recommender.text.tokens import tokeniser

SETTINGS, ARRAYS = "tfidf.json", "tfidf.safetensors"


@dataclass(frozen=True)
class TfidfSvd:
    """A fitted TF-IDF and SVD.

    Attributes:
        config: the run's text section.
        terms: the vocabulary; nothing when terms are hashed.
        columns: of the vocabulary or the buckets, those that are used, ascending, int64 [F].
        idf: weight of each column, float32 [F].
        components: float32 [D, F].
        explained: share of the TF-IDF rows' variance that the components keep.
    """

    config: TextConfig
    terms: list[str] | None
    columns: np.ndarray
    idf: np.ndarray
    components: np.ndarray
    explained: float

    @property
    def dim(self) -> int:
        return int(self.components.shape[0])

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        """L2-normalised vectors, float32 [len(texts), D]; zeros for a text without known terms."""
        from sklearn.feature_extraction.text import TfidfTransformer
        from sklearn.preprocessing import normalize

        if not texts:
            return np.zeros((0, self.dim), np.float32)
        settings = self.config.tfidf
        counts = _counts(tokeniser(self.config)(texts), settings, self.terms)[:, self.columns]
        weights = TfidfTransformer(sublinear_tf=settings.sublinear_tf)
        weights.idf_ = self.idf
        return normalize(weights.transform(counts) @ self.components.T).astype(np.float32)

    def save(self, directory: Path) -> None:
        """Write tfidf.json and tfidf.safetensors into an existing folder."""
        from safetensors.numpy import save_file

        arrays = {"columns": self.columns, "idf": self.idf, "components": self.components}
        save_file(arrays, directory / ARRAYS)
        settings = {
            "config": self.config.model_dump(),
            "terms": self.terms,
            "explained": self.explained,
        }
        write_json(directory / SETTINGS, settings)

    @classmethod
    def load(cls, directory: Path) -> "TfidfSvd":
        """What `save` wrote."""
        from safetensors.numpy import load_file

        settings = read_json(Path(directory) / SETTINGS)
        config = TextConfig.model_validate(settings["config"])
        arrays = load_file(Path(directory) / ARRAYS)
        return cls(config, settings["terms"], explained=settings["explained"], **arrays)


def fit_tfidf(texts: Sequence[str], config: TextConfig) -> TfidfSvd:
    """TF-IDF over `texts` and its SVD, repeatable by `text.tfidf.seed`.

    idf = ln((1 + n) / (1 + df)) + 1, rows L2-normalised (scikit-learn's TfidfTransformer).

    Raises:
        KuberecError: no term occurs in `min_df` texts, or only one.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    settings = config.tfidf
    tokens = tokeniser(config)(texts)
    terms = _vocabulary(tokens, settings) if settings.terms == "vocabulary" else None
    counts = _counts(tokens, settings, terms)
    columns = np.flatnonzero(
        np.bincount(counts.indices, minlength=counts.shape[1]) >= settings.min_df
    ).astype(np.int64)
    if len(columns) < 2:  # of one there is no SVD
        found = "only one" if len(columns) else "no"
        raise KuberecError(
            f"{found} term occurs in {settings.min_df} of the {len(texts)} item texts: lower "
            "text.tfidf.min_df, or leave tfidf-svd out of text.features"
        )
    counts = counts[:, columns]
    weights = TfidfTransformer(sublinear_tf=settings.sublinear_tf).fit(counts)
    weighted = weights.transform(counts)
    dim = min(settings.dim, *weighted.shape)
    with np.errstate(invalid="ignore"):  # of texts that are all the same
        svd = TruncatedSVD(dim, algorithm="randomized", random_state=settings.seed).fit(weighted)
    explained = float(svd.explained_variance_ratio_.sum())
    return TfidfSvd(
        config=config,
        terms=terms,
        columns=columns,
        idf=weights.idf_.astype(np.float32),
        components=np.ascontiguousarray(svd.components_, np.float32),
        explained=explained if np.isfinite(explained) else 1.0,  # no variance, none lost
    )


def _vocabulary(tokens: list[list[str]], settings: TfidfConfig) -> list[str]:
    """The commonest of the terms that occur in `min_df` texts, in alphabetical order."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(
        analyzer=_as_they_are,
        min_df=min(settings.min_df, len(tokens)),  # more than there are would be its own error
        max_features=settings.max_features,
    )
    try:
        counter.fit(tokens)
    except ValueError:  # nothing is left
        return []
    return sorted(counter.vocabulary_)


def _counts(tokens: list[list[str]], settings: TfidfConfig, terms: list[str] | None) -> Any:
    """How often each term is in each text: scipy CSR [texts, columns]."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

    if terms is None:
        counter = HashingVectorizer(
            analyzer=_as_they_are,
            n_features=settings.max_features,
            norm=None,
            alternate_sign=False,  # of counts that are below 0 there is no logarithm
            dtype=np.float32,
        )
    elif terms:
        counter = CountVectorizer(analyzer=_as_they_are, vocabulary=terms, dtype=np.float32)
    else:
        return csr_matrix((len(tokens), 0), dtype=np.float32)
    return counter.transform(tokens)


def _as_they_are(tokens: list[str]) -> list[str]:
    return tokens

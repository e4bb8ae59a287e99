"""Texts to terms for TF-IDF, by Hugging Face tokenizers."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from recommender.settings import TextConfig
from recommender.text.encoder import load_tokenizer

Tokenise = Callable[[Sequence[str]], list[list[str]]]


def tokeniser(config: TextConfig) -> Tokenise:
    """A function from texts to each one's terms, by `text.tfidf.tokenizer`.

    words: runs of letters and digits, lower case, without accents; any language that puts spaces
    between words. encoder: the pieces that `text.encoder` reads, without its special tokens;
    also for languages that do not. max_tokens cuts neither.

    Raises:
        KuberecError: the encoder's tokenizer cannot be loaded.
    """
    return words if config.tfidf.tokenizer == "words" else _pieces(load_tokenizer(config.encoder))


def words(texts: Sequence[str]) -> list[list[str]]:
    """Each text's words: NFKD, lower case, accents and punctuation left out."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    normaliser = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    splitter = pre_tokenizers.Split(Regex(r"[^\p{L}\p{M}\p{N}]+"), behavior="removed")
    return [
        [word for word, _ in splitter.pre_tokenize_str(normaliser.normalize_str(text))]
        for text in texts
    ]


def _pieces(tokenizer: Any) -> Tokenise:
    def pieces(texts: Sequence[str]) -> list[list[str]]:
        if not texts:
            return []
        encoded: Iterable[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        unknown = tokenizer.unk_token
        return [
            [piece for piece in tokenizer.convert_ids_to_tokens(ids) if piece != unknown]
            for ids in encoded
        ]

    return pieces

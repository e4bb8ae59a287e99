"""Item texts: cleaning, and what a model reads of them.

Importing this is light: sklearn, tokenizers, torch and transformers are imported by what uses them.
"""

from recommender.text.cache import cached_vectors
from recommender.text.cleaning import clean_text, item_text
from recommender.text.encoder import Encoder, encode_texts, encoder_location, load_encoder
from recommender.text.tfidf import TfidfSvd, fit_tfidf
from recommender.text.vectors import encode_items

__all__ = [
    "Encoder",
    "TfidfSvd",
    "cached_vectors",
    "clean_text",
    "encode_items",
    "encode_texts",
    "encoder_location",
    "fit_tfidf",
    "item_text",
    "load_encoder",
]

"""Items whose texts are all but the same, by MinHash and locality-sensitive hashing.

A text is the set of its n-grams of words. Sets of a large Jaccard similarity (shared n-grams by
all n-grams) are found by MinHash signatures in bands (Broder 1997; Leskovec, Rajaraman, Ullman:
Mining of Massive Datasets, 3.4), and only then compared: what is called a near duplicate is one
by the true similarity. What LSH misses is missed: see `lsh`.

Items are taken in the order of their positions, and each is compared with the *first ones* so
far. The first that is similar enough is the one that it is a near duplicate of; without such, it
is a first one itself. So every item is similar to the one that it is merged into, which clusters
along chains do not give, and ten thousand items of one text are as many comparisons.

Texts pass through in batches, twice: first all of them, of which 8 bytes a band are held, then
those alone that share a band with another, of which the first ones are held as an index entry and
8 bytes an n-gram (docs/data/cleaning.md has the figures).
"""

import re
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from ingestion.cleaning.settings import NearDuplicatesConfig
from ingestion.engines.base import Keep
from recommender import schema

if TYPE_CHECKING:
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

FIRST_ITEM_ID = "first_item_id"
_BATCH = 20_000  # positions
_SEED = 1  # of the permutations: the same items are found in every run
_WORD = re.compile(r"\w+")
# A candidate too many costs a comparison, one too few is never looked at.
_WEIGHTS = (0.05, 0.95)  # of false positives and false negatives


def merged(items: ir.Table, config: NearDuplicatesConfig, keep: Keep) -> ir.Table:
    """(item_id, first_item_id): every near duplicate, and the item that it says again.

    No `first_item_id` is itself an `item_id` of that table.

    Args:
        items: with item_id, position and text; those without a text are left alone.
    """
    pairs = keep("near_duplicate_positions", ibis.memtable(_pairs(items, config)))
    ids = items.select(schema.ITEM_ID, schema.POSITION)
    firsts = ids.select(first=schema.POSITION, **{FIRST_ITEM_ID: schema.ITEM_ID})
    found = pairs.join(ids, schema.POSITION).join(firsts, "first")
    return keep("near_duplicates", found.select(schema.ITEM_ID, FIRST_ITEM_ID))


def ngrams(text: str, length: int) -> np.ndarray:
    """The distinct n-grams of a text's words, as sorted uint64 hashes; one if it has fewer words.

    Case and punctuation make no difference.
    """
    words = _WORD.findall(text.casefold())
    grams = {
        " ".join(words[start : start + length]) for start in range(max(1, len(words) - length + 1))
    }
    hashes = [blake2b(gram.encode(), digest_size=8).digest() for gram in grams if gram]
    return np.sort(np.frombuffer(b"".join(hashes), dtype="<u8"))


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Jaccard's, of two sorted sets."""
    if not one.size or not other.size:
        return 0.0
    shared = np.intersect1d(one, other, assume_unique=True).size
    return float(shared / (one.size + other.size - shared))


def lsh(config: NearDuplicatesConfig) -> "MinHashLSH":
    """The index: b bands of r rows; a pair of similarity s is found with 1 - (1 - s^r)^b."""
    from datasketch import MinHashLSH

    return MinHashLSH(
        threshold=config.threshold,
        num_perm=config.permutations,
        weights=_WEIGHTS,
        hashfunc=lambda band: blake2b(band, digest_size=8).digest(),
    )


def _pairs(items: ir.Table, config: NearDuplicatesConfig) -> pa.Table:
    """(position, first): near duplicates and their first ones, by position in the source."""
    index = lsh(config)
    candidates = _sharing_a_bucket(items, index, config)
    firsts: dict[int, np.ndarray] = {}
    pairs: list[tuple[int, int]] = []
    for position, grams, signature in _signed(items, config, candidates):
        for first in sorted(index.query(signature)):
            if similarity(grams, firsts[first]) >= config.threshold:
                pairs.append((position, first))
                break
        else:
            index.insert(position, signature)
            firsts[position] = grams
    columns = [pa.array(column, pa.int64()) for column in zip(*pairs, strict=True)]
    none = pa.array([], pa.int64())
    return pa.table(dict(zip((schema.POSITION, "first"), columns or (none, none), strict=True)))


def _sharing_a_bucket(
    items: ir.Table, index: "MinHashLSH", config: NearDuplicatesConfig
) -> np.ndarray:
    """Positions, sorted, of the items that have a band in common with another.

    All others have no near duplicate, and they are most: the index, some 4 KB an item, is spared
    them.
    """
    positions, bands = array("q"), array("Q")
    for position, _, signature in _signed(items, config):
        rows = signature.hashvalues[: index.b * index.r].reshape(index.b, index.r)
        positions.append(position)
        bands.frombytes(b"".join(blake2b(row.tobytes(), digest_size=8).digest() for row in rows))
    keys = np.frombuffer(bands, np.uint64).reshape(len(positions), index.b)
    shared = np.zeros(len(positions), bool)
    for band in keys.T:
        _, bucket, size = np.unique(band, return_inverse=True, return_counts=True)
        shared |= size[bucket] > 1
    return np.frombuffer(positions, np.int64)[shared]


def _signed(
    items: ir.Table, config: NearDuplicatesConfig, among: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray, "MinHash"]]:
    """(position, n-grams, signature) of the items that have words, in the order of positions."""
    from datasketch import MinHash

    for batch in _batches(items):
        if among is not None:
            batch = batch.filter(np.isin(batch[schema.POSITION].to_numpy(), among))
        sets = [ngrams(text, config.ngram) for text in batch[schema.TEXT].to_pylist()]
        signatures = MinHash.generator(
            ((grams & 0xFFFFFFFF).tolist() for grams in sets),  # it takes 32 bits of a hash
            num_perm=config.permutations,
            seed=_SEED,
            hashfunc=int,
        )
        positions = batch[schema.POSITION].to_pylist()
        for position, grams, signature in zip(positions, sets, signatures, strict=True):
            if grams.size:
                yield position, grams, signature


def _batches(items: ir.Table) -> Iterator[pa.Table]:
    """Positions and texts in the order of positions, a range of positions at a time."""
    texts = items.filter(items[schema.TEXT].notnull()).select(schema.POSITION, schema.TEXT)
    ends = texts.agg(
        first=texts[schema.POSITION].min(), last=texts[schema.POSITION].max()
    ).to_pyarrow()
    first, last = ends["first"][0].as_py(), ends["last"][0].as_py()
    if first is None:
        return
    for start in range(first, last + 1, _BATCH):
        batch = texts.filter(texts[schema.POSITION].between(start, start + _BATCH - 1))
        yield batch.order_by(schema.POSITION).to_pyarrow()

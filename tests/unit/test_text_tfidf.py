"""TF-IDF and SVD: the arithmetic, words and pieces, hashing, and what is kept on disk."""

import numpy as np
import pytest
from text_encoder import write_encoder

from recommender.errors import KuberecError
from recommender.settings import TextConfig, TfidfConfig
from recommender.text import TfidfSvd, fit_tfidf
from recommender.text.tokens import tokeniser, words

TEXTS = [
    "alien space horror",
    "space horror sequel",
    "space station drama",
    "romantic comedy",
    "romantic drama comedy",
    "comedy",
]


def config(**tfidf) -> TextConfig:
    return TextConfig(tfidf=TfidfConfig(**({"min_df": 1} | tfidf)))


def reference(texts: list[str], sublinear: bool) -> np.ndarray:
    """TF-IDF rows, L2-normalised, by the formula of the docstring."""
    terms = sorted({word for text in texts for word in text.split()})
    counts = np.array([[text.split().count(term) for term in terms] for text in texts], float)
    idf = np.log((1 + len(texts)) / (1 + (counts > 0).sum(0))) + 1
    if sublinear:
        counts = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    rows = counts * idf
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("terms", ["vocabulary", "hashing"])
@pytest.mark.parametrize("sublinear", [True, False])
def test_with_all_components_angles_are_those_of_the_tfidf(terms, sublinear):
    """An SVD of full rank is a rotation: what remains is the TF-IDF by its formula."""
    texts = [*TEXTS, "drama drama drama alien"]
    fitted = fit_tfidf(texts, config(terms=terms, sublinear_tf=sublinear, dim=100))
    vectors = fitted.transform(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (7, 7)  # no more components than there are texts
    rows = reference(texts, sublinear)
    np.testing.assert_allclose(vectors @ vectors.T, rows @ rows.T, atol=1e-5)
    assert fitted.explained == pytest.approx(1, abs=1e-5)


def test_few_components_keep_what_belongs_together():
    fitted = fit_tfidf(TEXTS, config(dim=2))
    vectors = fitted.transform(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    same, other = vectors[0] @ vectors[1], vectors[0] @ vectors[5]
    assert same > 0.95
    assert other < 0.5
    assert 0 < fitted.explained < 1


@pytest.mark.parametrize("terms", ["vocabulary", "hashing"])
def test_the_same_seed_gives_the_same_vectors(terms):
    made = [fit_tfidf(TEXTS, config(dim=3, terms=terms)).transform(TEXTS) for _ in range(2)]
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("terms", ["vocabulary", "hashing"])
def test_rare_terms_do_not_count(terms):
    fitted = fit_tfidf(TEXTS, config(min_df=2, terms=terms))
    assert len(fitted.columns) == 5  # space, horror, drama, romantic, comedy
    np.testing.assert_array_equal(*fitted.transform(["alien space", "space sequel station"]))


def test_a_vocabulary_is_cut_to_the_commonest_terms():
    fitted = fit_tfidf(TEXTS, config(max_features=2))
    assert fitted.terms == ["comedy", "space"]


def test_a_text_without_known_terms_is_zero():
    vectors = fit_tfidf(TEXTS, config()).transform(["", "unheard of", "Space!"])
    assert not vectors[:2].any()
    assert np.linalg.norm(vectors[2]) == pytest.approx(1)


@pytest.mark.parametrize("terms", ["vocabulary", "hashing"])
@pytest.mark.parametrize("texts", [["one", "two"], ["", ""]])
def test_a_catalogue_without_terms_is_told_what_to_do(terms, texts):
    with pytest.raises(KuberecError, match=r"no term occurs in 2 of the 2 item texts: lower"):
        fit_tfidf(texts, config(min_df=2, terms=terms))


@pytest.mark.parametrize("terms", ["vocabulary", "hashing"])
def test_what_was_fitted_gives_later_items_their_vectors(terms, tmp_path):
    fitted = fit_tfidf(TEXTS, config(dim=3, terms=terms, min_df=2))
    fitted.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tfidf.json", "tfidf.safetensors"}
    later = ["space comedy", "a romantic station"]
    loaded = TfidfSvd.load(tmp_path)
    np.testing.assert_array_equal(loaded.transform(later), fitted.transform(later))
    assert loaded.config == fitted.config
    assert loaded.transform([]).shape == (0, 3)


def test_words_are_of_any_script_without_case_and_accents():
    texts = ["Amélie's CAFÉ, 2001!", "Солярис (1972)", "千と千尋", "नमस्ते", "", "snake_case—dash"]
    assert words(texts) == [
        ["amelie", "s", "cafe", "2001"],
        ["солярис", "1972"],
        ["千と千尋"],
        ["नमसत"],
        [],
        ["snake", "case", "dash"],
    ]


def test_pieces_are_the_encoders_own(tmp_path):
    folder = write_encoder(tmp_path)
    pieces = tokeniser(TextConfig(encoder=str(folder), tfidf=TfidfConfig(tokenizer="encoder")))
    assert pieces(["abc d", "", "é?"]) == [["a", "##b", "##c", "d"], [], ["e"]]
    fitted = fit_tfidf(
        ["ab", "ab c"],
        TextConfig(encoder=str(folder), tfidf=TfidfConfig(tokenizer="encoder", min_df=1)),
    )
    assert fitted.terms == ["##b", "a", "c"]


def test_a_catalogue_with_one_term_is_told_so():
    with pytest.raises(KuberecError, match=r"only one term occurs in 1 of the 2 item texts"):
        fit_tfidf(["same", "same"], config())


def test_texts_that_are_all_the_same_lose_no_variance():
    fitted = fit_tfidf(["red car"] * 3, config())
    assert fitted.explained == 1
    assert np.linalg.norm(fitted.transform(["red car"])) == pytest.approx(1)

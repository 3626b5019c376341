"""Any Unicode goes through: lone surrogates, emoji, combining marks, right-to-left scripts, NUL."""

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import robustaug
from robustaug.ops.text.ragged import decode, encode
from robustaug.ops.text.words import find_words
from robustaug.registry import lookup

NAMES = [n for n in robustaug.list(kind="operator", modality="text") if "model" not in lookup(n).tags]
PIECES = [
    "don't", "NOT", "is not ", "é", "e\u0301", "\u0301", "\u200d", "👩‍💻", "🇫🇷", "שלום", "\u202eabc", "مرحبا ", "\0",
    "\ud800", "\udfff", "ß", "İ", "ﬁ", "½", "12", " ", "\n", "\r\n", "\u2028", ". ", "! ", "“”", "’", "'", "New York",
    "\U0010ffff", "\ufeff", "𝒳", "漢字", "ก็", "a", "Z", "&<>\"", "one",
]  # fmt: skip
odd = st.one_of(
    st.text(st.characters(), max_size=30),  # surrogates included
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
)
fuzzed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", NAMES)
@fuzzed
@given(texts=st.lists(odd, max_size=5), seed=st.integers(0, 2**32), severity=st.sampled_from([1, 3, 5]))
def test_any_text_goes_through_alone_as_in_a_batch(name, texts, seed, severity):
    operator = robustaug.create(name, severity=severity)
    out = operator(texts, seed=seed)
    assert len(out) == len(texts)
    assert out == [operator(text, seed=seed, index=i) for i, text in enumerate(texts)]
    if name == "text.unicode_normalisation":
        folded = [[unicodedata.normalize("NFKC", text) for text in some] for some in (texts, out)]
        assert folded[0] == folded[1]


@settings(max_examples=200, deadline=None)
@given(st.lists(odd, max_size=6))
def test_code_points_there_and_back(texts):
    assert decode(encode(texts)) == texts


@settings(max_examples=200, deadline=None)
@given(st.lists(odd, max_size=6))
def test_words_lie_within_their_texts_and_in_order(texts):
    ragged = encode(texts)
    words = find_words(ragged)
    assert (words.begin < words.end).all()
    assert (words.begin[1:] >= words.end[:-1]).all()
    assert (ragged.start[words.owner] <= words.begin).all()
    assert (words.end <= ragged.start[words.owner + 1]).all()
    alone = [len(find_words(encode([text])).begin) for text in texts]
    assert (words.first[1:] - words.first[:-1]).tolist() == alone

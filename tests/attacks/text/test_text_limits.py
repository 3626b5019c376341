"""What an attack may do to a text is kept for any Unicode, and whoever breaks it is caught."""

import itertools
import unicodedata
import zlib
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import robustaug
from robustaug.attacks.text import verify
from robustaug.attacks.text.char import SLIPS, misspellings
from robustaug.attacks.text.distance import damerau
from robustaug.attacks.text.sentence import one_words, split
from robustaug.ops.text.wordnet import FUNCTION_WORDS

PIECES = [
    "don't", "NOT", "is not ", "é", "e\u0301", "\u0301", "\u200d", "👩‍💻", "🇫🇷", "שלום", "\u202eabc", "مرحبا ", "\0",
    "\ud800", "ß", "İ", "ﬁ", "½", "12", "1'a", "a'1", " ", "\n", "\r\n", "\u2028", ". ", "! ", "“”", "’", "'",
    "New York", "\U0010ffff", "𝒳", "漢字", "ก็", "a", "Z", "one", " good film ", " good film ",
]  # fmt: skip
odd = st.one_of(
    st.text(st.characters(), max_size=25),  # surrogates included
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.text("'’.,! ", max_size=8),
)


def moody(texts):
    """A model that changes its mind at nearly every letter, and now and then has no answer."""
    words = [zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in texts]
    z = torch.tensor([[2.5 + w % 97 / 50, w % 89 / 22, w % 83 / 22] for w in words])
    return z.masked_fill(torch.tensor([w % 31 == 0 for w in words])[:, None], torch.nan)


def tricky(word):
    """Things that are words, things that are not, and things that depend on what stands beside them."""
    return [word[::-1], word.upper() + "x", "two words", "", "won't", "q", "'q", "q'", "1", "-", "\u0301", "film"]


def cut(text):
    """Words and gaps by the definition: runs of letters, digits and marks, and apostrophes between two letters."""
    kind = [
        "S" if c.isspace() else unicodedata.category(c)[0] if ord(c) < 0xFFFF else "S" for c in text
    ]  # beyond the plane all are symbols
    inside = [k in "LMN" for k in kind]
    for i in range(1, len(text) - 1):
        if text[i] in "'’" and kind[i - 1] == kind[i + 1] == "L":
            inside[i] = True
    runs = [
        (word, "".join(text[i] for i in run)) for word, run in itertools.groupby(range(len(text)), inside.__getitem__)
    ]
    return [run for word, run in runs if word], [run for word, run in runs if not word], bool(inside) and inside[0]


@settings(max_examples=150, deadline=None)
@given(st.lists(odd, max_size=4))
def test_texts_are_cut_up_by_the_definition_and_put_together(texts):
    for text, sentence in zip(texts, split(texts), strict=True):
        assert [*sentence.words] == cut(text)[0]
        assert [gap for gap in sentence.gaps if gap] == cut(text)[1]
        assert sentence.written(sentence.words) == text
        for place in range(len(sentence.words)):
            shorter = sentence.without(place)
            assert len(text) - len(shorter) - len(sentence.words[place]) in (0, 1)


@settings(max_examples=120, deadline=None)
@given(
    texts=st.lists(odd, min_size=1, max_size=5),
    name=st.sampled_from(["text_char", "text_word"]),
    unit=st.sampled_from(["word", "character"]),
    max_rate=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    max_edits=st.sampled_from([None, 0, 1, 3]),
    width=st.sampled_from([1, 3]),
    ranking=st.sampled_from(["delete", "unk", "none"]),
    stop_words=st.sampled_from(["english", ["good", "one"], []]),
)
def test_the_limits_are_kept_on_any_text(texts, name, unit, max_rate, max_edits, width, ranking, stop_words):
    own = {"synonyms": tricky} if name == "text_word" else {"candidates": 6, "slips_per_word": 2}
    attack = robustaug.create(
        f"attack.{name}", unit=unit, max_rate=max_rate, max_edits=max_edits, width=width, ranking=ranking,
        stop_words=stop_words, protected=["FILM"], **own,
    )  # fmt: skip
    with pytest.warns() if moody(texts).isnan().any() else torch.no_grad():
        result = attack(moody, texts, [0] * len(texts))
    stop = FUNCTION_WORDS if stop_words == "english" else stop_words
    for row, (before, after) in enumerate(zip(texts, result.text_adv, strict=True)):
        words, gaps, first = cut(before)
        new, *same = cut(after)
        assert same == [gaps, first]
        pairs = [(a, b) for a, b in zip(words, new, strict=True) if a != b]
        assert not any(a.lower() in stop or a.lower() == "film" for a, _ in pairs)
        edits = len(pairs) if unit == "word" else sum(damerau(a, b) for a, b in pairs)
        size = len(words) if unit == "word" else len(before)
        assert edits <= max_rate * size + 1e-9
        assert max_edits is None or edits <= max_edits
        assert result.edits[row] == edits
        assert float(result.edit_rate[row]) == pytest.approx(edits / max(size, 1))
    z = moody(result.text_adv)
    assert torch.equal(result.success, ~z.isnan().any(1) & (z.argmax(1) != 0))
    assert torch.equal(result.verified, result.success)


def test_character_edits_may_change_a_share_of_all_characters():
    def never(texts):  # every deletion is a step, none is the last
        return torch.tensor([[float(len(text)), 0.0] for text in texts])

    attack = robustaug.create("attack.text_char", unit="character", max_rate=0.29, stop_words=[], slips_per_word=3)
    text = "abcde fghij klmno pqrst uvwxy " * 3 + "abcdefghij"  # 100 characters
    result = attack(never, [text], [0])
    assert result.edits == 29
    assert attack.limit(split([text])[0]) == 29  # 0.29 * 100 is below 29 in floating point
    assert float(result.edit_rate) == pytest.approx(float(result.edits) / 100)


@pytest.mark.parametrize(
    ("changed", "fine"),
    [
        ("a good film, not long!", True),  # nothing changed
        ("a fine film, not long!", True),
        ("a fine movie, not long!", False),  # two edits
        ("a good film, not long", False),  # a mark lost
        ("a good  film, not long!", False),  # a space more
        ("a good film, not very long!", False),  # a word more
        ("a good, not long!", False),
        ("a good film, now long!", False),  # a stop word
        ("a good film, not tall!", False),  # protected
        ("a bad film, not long!", False),  # no synonym
    ],
)
def test_the_verifier_catches_what_breaks_a_limit(changed, fine):
    synonyms = {"good": ["fine"], "film": ["movie"], "not": ["now"], "long": ["tall"]}
    attack = robustaug.create("attack.text_word", synonyms=synonyms, protected=["long"], max_rate=0.2)
    text = "a good film, not long!"
    ask = SimpleNamespace(model=lambda t: torch.tensor([[0.0, 1.0]]).repeat(len(t), 1), batch_size=8)
    assert verify.allowed(attack, ask, text, changed) == fine
    assert bool(verify.verify(attack, ask, [text], [changed], torch.tensor([0]))) == fine
    assert not verify.verify(attack, ask, [text], [changed], torch.tensor([1]))


def test_the_verifier_asks_for_the_similarity_again():
    ask = SimpleNamespace(model=lambda t: torch.tensor([[0.0, 1.0]]).repeat(len(t), 1), batch_size=8)
    for value, fine in ((0.7, True), (0.5, False), (float("nan"), False)):
        attack = robustaug.create(
            "attack.text_word", synonyms={"film": ["movie"]}, max_rate=1.0, min_similarity=0.6,
            similarity=lambda old, new, value=value: [value] * len(old),
        )  # fmt: skip
        assert bool(verify.verify(attack, ask, ["film"], ["movie"], torch.tensor([0]))) == fine


def test_most_slips_are_checked_again():
    attack = robustaug.create("attack.text_char", max_rate=1.0)
    for changed, fine in (("flim", True), ("fillm", True), ("fi1m", True), ("fliim", False), ("moviefilm", False)):
        assert verify.allowed(attack, None, "film", changed) == fine


def test_one_slip_makes_every_misspelling_and_nothing_else():
    kinds = dict(zip(SLIPS, misspellings("can't", SLIPS), strict=True))
    assert kinds["swap"] == ("acn't", "cna't", "ca'nt")  # no "cant'": an apostrophe must stand between letters...
    assert kinds["delete"] == ("an't", "cn't", "ca't", "cant")  # ...so the t behind it stays
    assert len(kinds["insert"]) == 26 * 6 - 4  # doubling a letter is the same on either side of it
    assert "csn't" in kinds["keyboard"]
    assert "cаn't" in kinds["homoglyph"]
    everything = [piece for kind in kinds.values() for piece in kind]
    assert len(everything) == len({*everything})
    assert all(damerau("can't", piece) == 1 for piece in everything)
    assert one_words(everything) == everything


def test_candidates_come_from_all_kinds_of_slips_in_equal_parts():
    attack = robustaug.create("attack.text_char", candidates=10)
    task = SimpleNamespace(seed=7)
    chosen = attack.variants(task, 0, 0, "wonderful")
    kinds = misspellings("wonderful", SLIPS)
    assert [sum(piece in kind for piece in chosen) for kind in kinds] == [2] * 5
    assert chosen != attack.variants(task, 1, 0, "wonderful")
    everything = robustaug.create("attack.text_char", candidates=10_000).variants(task, 0, 0, "wonderful")
    assert [*everything] == [piece for kind in kinds for piece in kind]


def test_the_distance_is_the_shortest_way_of_single_edits():
    """By breadth-first search over all words of up to five letters."""
    letters = "abc"
    nodes = ["".join(w) for n in range(6) for w in itertools.product(letters, repeat=n)]

    def steps(word):
        for i in range(len(word) + 1):
            yield from (word[:i] + c + word[i:] for c in letters)
        for i in range(len(word)):
            yield word[:i] + word[i + 1 :]
            yield from (word[:i] + c + word[i + 1 :] for c in letters)
        for i in range(len(word) - 1):
            yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]

    near = {node: {step for step in steps(node) if len(step) <= 5} for node in nodes}
    for start in [node for node in nodes if len(node) <= 3]:
        distance, front = {start: 0}, [start]
        while front:
            front = [
                b for a in front for b in near[a] if b not in distance and not distance.update({b: distance[a] + 1})
            ]
        for other in [node for node in nodes if len(node) <= 3]:
            assert damerau(start, other) == distance[other], (start, other)
    assert damerau("ca", "abc") == 2  # where the optimal string alignment says 3

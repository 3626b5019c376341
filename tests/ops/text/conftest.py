"""Texts to try operators on, and a WordNet of a few words in WordNet's own file format."""

import random

import pytest

from robustaug.ops.text import wordnet

SENTENCES = [
    "I don't know why it is so funny, but it's a great film!",
    "The director couldn't believe that James and Mary were in Paris on Monday.",
    "We will watch 3 movies in 1999, and it is going to be very good.",
    "“What a boring, terrible picture,” she said; they're definitely right.",
    "You have to receive their friends in New York before 12 o'clock.",
    "The color of the theater was gray, because our neighbor didn't paint it.",
    "Apparently there are three sequels, which I cannot recommend.",
    "Es war süß: die Müllerin aß fünf Klöße & trank Kaffee.",
    "Do not separate the beginning from the end (or you won't understand).",
    "Google and Toyota hired seventy people from Germany in March.",
    "A bad story is not saved by a happy character, however big.",
    "Would you please tell the children, who should have slept, to be quiet?",
]

_WORDS = {  # part of speech: synsets of (words, frequency of each, antonym's words or none)
    "n": [(["film", "movie", "motion_picture"], 9, None), (["story", "tale"], 5, None), (["friend"], 3, "enemy"),
          (["enemy", "foe"], 2, "friend"), (["beginning", "start"], 4, "end"), (["end", "ending"], 4, "beginning")],
    "v": [(["watch", "view"], 4, None), (["hire", "engage"], 2, "fire"), (["fire", "dismiss"], 2, "hire")],
    "a": [(["good"], 8, "bad"), (["bad"], 7, "good"), (["happy"], 4, "unhappy"), (["unhappy"], 3, "happy"),
          (["big", "large"], 6, "small"), (["small", "little"], 6, "big"), (["terrible", "awful"], 4, None),
          (["boring", "dull", "tedious"], 4, None), (["right", "correct"], 4, "wrong"), (["wrong"], 4, "right")],
    "r": [(["apparently", "seemingly"], 2, None), (["definitely", "decidedly"], 2, None),
          (["very", "really"], 5, None)],
}  # fmt: skip
_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}


def write_wordnet(folder):
    """Write data, index, sense counts: byte offsets are a synset's name, and pointers refer to them."""
    counts = []
    for part, synsets in _WORDS.items():
        offsets = {}
        lines = []
        for at_last in (False, True):  # the second time, all offsets are known
            lines, position = [], 0
            for words, frequency, opposite in synsets:
                named = " ".join(f"{word} 0" for word in words)
                target = f"001 ! {offsets.get(opposite, 0):08d} {part} 0101" if opposite else "000"
                frames = " 01 + 01 00" if part == "v" else ""
                line = f"{position:08d} 00 {part} {len(words):02x} {named} {target}{frames} | a gloss  \n"
                offsets |= dict.fromkeys(words, position)
                lines.append(line)
                position += len(line)
                if at_last:
                    number = {"n": 1, "v": 2, "a": 3, "r": 4}[part]
                    counts += [f"{frequency} {word}%{number}:00:00:: 1\n" for word in words]
        (folder / f"data.{_FILES[part]}").write_text("".join(lines))
        index = [f"{word} {part} 1 0 1 1 {offset:08d}  \n" for word, offset in sorted(offsets.items())]
        (folder / f"index.{_FILES[part]}").write_text("".join(index))
        (folder / f"{_FILES[part]}.exc").write_text("")
    (folder / "lexnames").write_text("00\tadj.all\t3\n")
    (folder / "cntlist.rev").write_text("".join(f"{b} {c} {a}\n" for a, b, c in map(str.split, counts)))
    (folder / "index.sense").write_text("")


@pytest.fixture(scope="session")
def tiny_wordnet(tmp_path_factory):
    reader = pytest.importorskip("nltk.corpus.reader.wordnet")
    folder = tmp_path_factory.mktemp("nltk_data") / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    write_wordnet(folder)
    import nltk

    home = str(folder.parents[1])
    nltk.data.path.append(home)  # nltk opens no file elsewhere
    yield reader.WordNetCorpusReader(str(folder), None)
    nltk.data.path.remove(home)


@pytest.fixture(autouse=True)
def wordnet_here(request, monkeypatch):
    """Every test of this folder reads the tiny WordNet, whatever the machine has."""
    if "without_wordnet" in request.fixturenames:
        yield
        return
    tiny = request.getfixturevalue("tiny_wordnet")
    monkeypatch.setattr(wordnet, "corpus", lambda: tiny)
    wordnet.synonyms.cache_clear()
    wordnet.antonyms.cache_clear()
    yield
    wordnet.synonyms.cache_clear()
    wordnet.antonyms.cache_clear()


@pytest.fixture
def without_wordnet():
    """Leave `corpus` as it is."""


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """24 texts of three to seven sentences."""
    draw = random.Random(0)
    return [" ".join(draw.choices(SENTENCES, k=draw.randint(3, 7))) for _ in range(24)]

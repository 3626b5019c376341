"""The search and its driver: exhaustive search, closed forms, counting, batches, budgets, refusals."""

import itertools
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.state import AttackWarning
from robustaug.attacks.text import driver
from robustaug.rng import Keys

VOCABULARY = ["red", "blue", "green", "pink", "grey", "gold"]
SYNONYMS = {word: [VOCABULARY[(at + 1) % 6], VOCABULARY[(at + 2) % 6]] for at, word in enumerate(VOCABULARY)}


def noise(text, salt=0):
    """A number in [-1, 1) that looks random and depends on the text alone."""
    return zlib.crc32(f"{salt}:{text}".encode("utf-8", "surrogatepass")) / 2**31 - 1


def rough(texts):
    """A model whose words act together in no simple way."""
    return torch.tensor([[2.0 + noise(t, 0), 1.0 + 1.5 * noise(t, 1), 1.5 * noise(t, 2)] for t in texts])


class Linear:
    """Each word has a weight of its own; class 0 wins while the sum is positive. Counts the texts it is asked about."""

    def __init__(self, seed=0):
        draw = np.random.default_rng(seed)
        self.weight = dict(zip(VOCABULARY, draw.permutation(6) + draw.uniform(0.1, 0.9, 6), strict=True))
        self.asked, self.calls = 0, []

    def __call__(self, texts):
        self.asked += len(texts)
        self.calls.append(len(texts))
        z = np.array([sum(self.weight.get(word, 0.0) for word in text.split()) for text in texts])
        return np.stack([z, np.zeros_like(z)], 1)


def sentences(n, length=5, seed=0):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(VOCABULARY, length)) for _ in range(n)]


def word(**params):
    return robustaug.create("attack.text_word", **{"synonyms": SYNONYMS, "max_rate": 1.0, "max_edits": 2} | params)


def neighbours(text, edits):
    """Every text with exactly that many words replaced by a synonym."""
    words = text.split()
    for places in itertools.combinations(range(len(words)), edits):
        for pieces in itertools.product(*(SYNONYMS[words[place]] for place in places)):
            out = [*words]
            for place, piece in zip(places, pieces, strict=True):
                out[place] = piece
            yield " ".join(out)


def margin(logits, label):
    others = logits.clone()
    others[:, label] = -torch.inf
    return others.amax(1) - logits[:, label]


def test_a_wide_beam_agrees_with_exhaustive_search():
    def firm(texts):
        return rough(texts) + torch.tensor([0.9, 0.0, 0.0])

    texts = sentences(60)
    result = word(ranking="none", width=10_000)(firm, texts, [0] * 60)
    greedy = word()(firm, texts, [0] * 60)
    seen = set()
    for row, text in enumerate(texts):
        all_of_it = [firm([*neighbours(text, edits)]) for edits in range(3)]
        least = next((edits for edits, z in enumerate(all_of_it) if (z.argmax(1) != 0).any()), None)
        assert bool(result.success[row]) == (least is not None)
        if least is None:
            best = max(float(margin(z, 0).max()) for z in all_of_it)
            assert float(margin(firm([result.text_adv[row]]), 0)) == pytest.approx(best)
            assert not greedy.success[row]
        else:
            assert result.edits[row] == least
        seen.add(least)
    assert seen == {0, 1, 2, None}
    assert torch.equal(result.verified, result.success)
    assert 0 < greedy.success.sum() < result.success.sum()


@pytest.mark.parametrize("edits", [0, 1, 2, 3])
def test_greedy_without_ranking_is_optimal_for_a_linear_model(edits):
    """Words act apart, so the best change is the sum of the greatest gains of single words."""
    texts, model = sentences(20), Linear()
    result = word(ranking="none", max_edits=edits)(model, texts, [0] * 20)
    for row, text in enumerate(texts):
        gains = [max(0.0, *(model.weight[w] - model.weight[s] for s in SYNONYMS[w])) for w in text.split()]
        best = model([text])[0, 0] - sum(sorted(gains)[::-1][:edits])
        if best > 1e-9:
            assert model([result.text_adv[row]])[0, 0] == pytest.approx(best)
        assert bool(result.success[row]) == (best < -1e-9)


def test_the_ranking_gives_the_most_important_word_its_turn_first():
    model = Linear()
    heavy = max(model.weight, key=model.weight.get)
    light = [w for w in VOCABULARY if w != heavy]
    text = " ".join([*light[:2], heavy, *light[2:4]])
    result = word(max_edits=1)(model, [text], [0])
    changed = [a for a, b in zip(text.split(), result.text_adv[0].split(), strict=True) if a != b]
    assert changed == [heavy]


@pytest.mark.parametrize("ranking", ["delete", "unk"])
def test_queries_are_the_texts_the_model_is_asked_about(ranking):
    """The clean text, one for each word's importance, and the synonyms of each word until the edits are spent."""
    model = Linear()
    model.weight = {w: 10.0 + at for at, w in enumerate(VOCABULARY)}  # two edits never break it
    texts = ["red gold pink", "green blue grey"]
    result = word(max_edits=2, ranking=ranking)(model, texts, [0, 0])
    assert not result.success.any()
    verifier = len(texts)
    assert model.asked == result.queries.sum() + verifier
    spent = {1 + 3 + 2 * turns for turns in (2, 3)}  # a word whose synonyms all weigh more has its turn in vain
    assert set(result.queries.tolist()) <= spent


def test_what_was_asked_already_is_not_asked_again():
    model = Linear()
    model.weight = dict.fromkeys(VOCABULARY, 5.0)
    texts = ["red blue"] * 4  # the same question of four texts goes to the model once, and counts for each
    result = word(ranking="none")(model, texts, [0] * 4)
    assert len({*result.queries.tolist()}) == 1
    assert model.asked == int(result.queries[0]) - 1 + 4 + 4
    again = word(ranking="none", width=50, max_edits=2)(model, ["red blue"], [0])
    assert int(again.queries) == 3 * 3  # all there is, each once, in however many rounds


@pytest.mark.parametrize("params", [{}, {"width": 3}, {"ranking": "none"}, {"targeted": True}])
@pytest.mark.parametrize("name", ["text_word", "text_char"])
def test_results_do_not_depend_on_the_batch(name, params):
    texts = [*sentences(14), "", "...", "red", "don't red-blue's 'gold'"]
    keys = Keys.of(3, len(texts))
    given = {"synonyms": SYNONYMS} if name == "text_word" else {"candidates": 5}
    attack = robustaug.create(f"attack.{name}", max_rate=0.6, **given | params)
    labels = [0] * len(texts)
    whole = attack(rough, texts, labels, keys)
    assert 0 < whole.success.sum() < len(texts)
    for size, batch_size in ((1, 1), (5, 7)):
        parts = [
            attack(rough, texts[i : i + size], labels[i : i + size], keys[i : i + size], batch_size=batch_size)
            for i in range(0, len(texts), size)
        ]
        assert [text for part in parts for text in part.text_adv] == whole.text_adv
        for column in ("success", "verified", "edits", "edit_rate", "queries", "by"):
            assert torch.equal(torch.cat([getattr(p, column) for p in parts]), getattr(whole, column)), column


def test_the_model_sees_no_more_than_the_batch_size_and_many_texts_at_once():
    model = Linear()
    word()(model, sentences(40), [0] * 40, batch_size=32)
    assert max(model.calls) == 32
    assert len(model.calls) < model.asked / 10


def test_a_budget_is_kept_and_more_of_it_never_hurts():
    texts = sentences(40, seed=1)
    before = torch.zeros(40, dtype=torch.bool)
    for budget in (1, 4, 9, 14, 100):
        result = word()(rough, texts, [0] * 40, budget=budget)
        assert (result.queries <= budget).all()
        assert not (before & ~result.success).any()
        before = result.success
    free = word()(rough, texts, [0] * 40)
    assert torch.equal(free.success, before)
    assert word()(rough, texts, [0] * 40, budget=1).text_adv == texts


def test_texts_wrong_to_begin_with_count_as_they_came():
    result = word()(Linear(), ["red blue"], [1])
    assert result.success.all()
    assert result.verified.all()
    assert result.text_adv == ["red blue"]
    assert (int(result.queries), int(result.edits), int(result.by)) == (1, 0, 0)


def test_texts_that_stand_keep_the_nearest_that_was_found():
    texts = sentences(30, seed=2)
    result = word(max_edits=1)(rough, texts, [0] * 30)
    stood = [row for row in range(30) if not result.success[row]]
    gain = margin(rough([result.text_adv[row] for row in stood]), 0) - margin(rough([texts[row] for row in stood]), 0)
    assert (gain >= 0).all()
    assert (gain > 0).any()
    assert (result.by[stood] == -1).all()


def test_targets_are_reached_or_not_counted():
    texts, target = sentences(30), torch.full((30,), 2)
    result = word(targeted=True, width=4)(rough, texts, [0] * 30, target=target)
    assert torch.equal(rough(result.text_adv).argmax(1) == 2, result.success)
    assert result.success.any()
    some = word(targeted=True)(rough, texts, [0] * 30)  # a random wrong class a text
    assert (rough(some.text_adv).argmax(1) != 0)[some.success].all()


def test_a_wide_beam_towards_a_class_agrees_with_exhaustive_search():
    texts, target = sentences(30, seed=4), torch.full((30,), 1)
    result = word(targeted=True, ranking="none", width=10_000)(rough, texts, [0] * 30, target=target)
    for row, text in enumerate(texts):
        z = rough([changed for edits in range(3) for changed in neighbours(text, edits)])
        assert bool(result.success[row]) == bool((z.argmax(1) == 1).any())

    def reluctant(texts):
        return rough(texts) - torch.tensor([0.0, 4.0, 0.0])

    result = word(targeted=True, ranking="none", width=10_000)(reluctant, texts, [0] * 30, target=target)
    assert not result.success.any()
    for row, text in enumerate(texts):
        z = reluctant([changed for edits in range(3) for changed in neighbours(text, edits)])
        # the margin counts up to the label, so towards a class it is to be least
        assert float(margin(reluctant([result.text_adv[row]]), 1)) == pytest.approx(float(margin(z, 1).min()))


def test_of_texts_that_break_the_model_together_the_one_with_fewest_edits_is_kept():
    def afraid(texts):  # the longer the word, the surer of the wrong class
        return torch.tensor([[0.0, -1.0] if text == "red" else [0.0, float(len(text))] for text in texts])

    attack = robustaug.create(
        "attack.text_word", synonyms={"red": ["redwooded", "reds", "reddish"]}, unit="character", max_rate=1.0,
        max_edits=9,
    )  # fmt: skip
    result = attack(afraid, ["red wine and more of it"], [0])
    assert not result.edits.any()  # it was wrong as it came
    result = attack(lambda t: afraid([one.split()[0] for one in t]), ["red wine and more of it"], [0])
    assert result.text_adv == ["reds wine and more of it"]
    assert int(result.edits) == 1


def test_nan_never_counts_as_broken_and_never_spreads():
    def holes(texts):
        z = rough(texts)
        return torch.where(torch.tensor(["gold" in text for text in texts])[:, None], torch.nan, z)

    texts = ["red blue green", "red gold pink", "pink grey grey"]
    with pytest.warns(AttackWarning, match="NaN for 1 of 3 clean samples"):
        result = word(width=5)(holes, texts, [0, 0, 0])
    assert not any("gold" in text for text, won in zip(result.text_adv, result.success, strict=True) if won)
    nothing = word()(lambda t: torch.full((len(t), 2), torch.nan) if t != ["red"] else rough(t)[:, :2], ["red"], [0])
    assert not nothing.success.any()
    assert nothing.text_adv == ["red"]


def test_a_model_that_changes_its_mind_leaves_fragile_witnesses():
    calls = []

    def fickle(texts):
        calls.append(texts)
        wrong = 2 <= len(calls) <= 3  # what it says of the candidates, and never again
        return torch.tensor([[0.0, 1.0] if wrong else [1.0, 0.0]]).repeat(len(texts), 1)

    result = word()(fickle, ["red blue"], [0])
    assert result.success.all()
    assert not result.verified.any()
    assert result.fragile == 1


def test_similarity_is_asked_of_candidates_and_kept():
    def same_letters(originals, changed):
        return [1 - abs(len(a) - len(b)) / 5 for a, b in zip(originals, changed, strict=True)]

    texts = sentences(20)
    free, held = word()(rough, texts, [0] * 20), word(similarity=same_letters, min_similarity=1)(rough, texts, [0] * 20)
    assert all(len(a) == len(b) for a, b in zip(texts, held.text_adv, strict=True))
    assert any(len(a) != len(b) for a, b in zip(texts, free.text_adv, strict=True))
    assert torch.equal(held.verified, held.success)
    assert (held.queries <= 200).all()
    never = word(similarity=lambda a, b: np.full(len(a), np.nan), min_similarity=-9)(rough, texts, [0] * 20)
    assert all(a == b for a, b in zip(texts, never.text_adv, strict=True))
    assert torch.equal(never.verified, never.success)  # texts that were wrong are as they came
    with pytest.raises(ValueError, match=r"similarity must return one number a pair: .* got shape"):
        word(similarity=lambda a, b: np.zeros((len(a), 2)), min_similarity=0)(rough, texts, [0] * 20)


def test_other_keys_draw_other_misspellings():
    attack = robustaug.create("attack.text_char", candidates=3, max_rate=1.0)
    texts = ["wonderful extraordinary performance"]
    one, two = (attack(Linear(), texts, [1 - 0], Keys.of(seed, 1)) for seed in (0, 1))
    assert one.text_adv == two.text_adv == texts  # wrong to begin with

    def sure(t):
        return torch.tensor([[5.0 + noise(text), 0.0] for text in t])

    one, two, same = (attack(sure, texts, [0], Keys.of(seed, 1)).text_adv for seed in (0, 1, 0))
    assert one == same != two


@pytest.mark.parametrize("output", ["tensor", "array", "logits", "float64"])
def test_logits_come_in_any_form(output):
    forms = {
        "tensor": rough,
        "array": lambda t: rough(t).numpy(),
        "logits": lambda t: SimpleNamespace(logits=rough(t)),
        "float64": lambda t: rough(t).double(),
    }
    texts = sentences(10)
    assert word()(forms[output], texts, [0] * 10).text_adv == word()(rough, texts, [0] * 10).text_adv


def test_probabilities_of_two_classes_do_as_well_as_logits():
    model = Linear()
    model.weight = {w: weight - 2 for w, weight in model.weight.items()}
    texts = [text for text in sentences(40) if model([text])[0, 0] > 0]
    logits = word()(model, texts, [0] * len(texts))
    probabilities = word()(lambda t: torch.softmax(torch.from_numpy(model(t)), 1), texts, [0] * len(texts))
    assert torch.equal(logits.success, probabilities.success)
    assert 0 < logits.success.sum() < len(texts)


class Train(nn.Module):
    def forward(self, texts):
        return rough(texts)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"texts": []}, ValueError, "texts must hold at least one text"),
        ({"texts": "red"}, TypeError, "texts must be a list of str, got a single str"),
        ({"texts": ["red", 3]}, TypeError, "got int at position 1"),
        ({"labels": [0]}, ValueError, r"labels must have one class a sample: shape \(2,\), got \(1,\)"),
        ({"labels": [0, 3]}, ValueError, "labels must be in 0 to 2, the model's classes; got 3"),
        ({"labels": [0, -1]}, ValueError, "labels must be in 0 to 2"),
        ({"labels": [0.0, 1.0]}, TypeError, "labels must hold class indices in int64"),
        ({"target": [0, 1]}, ValueError, "target is for targeted attacks"),
        ({"keys": Keys.of(0, 3)}, ValueError, "keys must have one entry a text: 2 texts, 3 keys"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number >= 1, got 0"),
        ({"budget": 0}, ValueError, "budget must be a whole number >= 1, got 0"),
        ({"model": Train()}, ValueError, "train mode"),
        ({"model": 3}, TypeError, "model must be callable"),
        ({"model": lambda t: rough(t)[:1]}, ValueError, "returned 1 rows of logits for 2 texts"),
        ({"model": lambda t: rough(t)[:, 0]}, ValueError, "for two classes return two logits"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    given = {"model": rough, "texts": ["red", "blue"], "labels": [0, 0]} | change
    with pytest.raises(error, match=message):
        word()(**given)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"unit": "letter"}, "unit must be one of 'word', 'character', got 'letter'"),
        ({"max_rate": 1.5}, r"max_rate must be a share in \[0, 1\], got 1.5"),
        ({"max_edits": -1}, "max_edits must be a whole number >= 0, got -1"),
        ({"width": 0}, "width must be a whole number >= 1, got 0"),
        ({"candidates": 0}, "candidates must be a whole number >= 1, got 0"),
        ({"ranking": "wir"}, "ranking must be one of"),
        ({"unknown": "<unk>"}, "unknown is the text that ranking='unk' puts in"),
        ({"stop_words": "german"}, 'stop_words must be "english" or a list of words'),
        ({"protected": "red"}, "protected must be a list of words"),
        ({"min_similarity": 0.5}, "similarity and min_similarity go together"),
        ({"targeted": 2}, "targeted must be true or false"),
    ],
)
@pytest.mark.parametrize("name", ["text_char", "text_word"])
def test_bad_parameters_are_refused(name, params, message):
    with pytest.raises(ValueError, match=f"attack.{name}: {message}"):
        robustaug.create(f"attack.{name}", **params)


def test_unknown_parameters_come_with_the_nearest():
    with pytest.raises(TypeError, match=r"attack.text_char has no parameter 'max_edit'; did you mean 'max_edits'"):
        robustaug.create("attack.text_char", max_edit=3)


def test_repr_rebuilds_the_attack():
    attack = robustaug.create("attack.text_char", max_rate=0.1, slips=["swap"], protected=["Anna"])
    assert attack.spec() == {"attack.text_char": {"max_rate": 0.1, "slips": ["swap"], "protected": ["Anna"]}}
    assert eval(repr(attack)) == attack


def test_text_attacks_are_listed_apart():
    names = ["attack.text_char", "attack.text_hotflip", "attack.text_word"]
    assert robustaug.list(kind="attack", modality="text") == names
    assert {*names, "attack.pgd"} <= {*robustaug.list(kind="attack")}
    assert robustaug.list(kind="attack", modality="text", tag="gradient") == ["attack.text_hotflip"]
    assert driver.TextAttackResult._fields[:3] == ("text_adv", "success", "verified")

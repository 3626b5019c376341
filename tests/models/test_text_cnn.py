import pytest
import torch

import robustaug
from robustaug.attacks.text.asking import TokenModel
from robustaug.models import checkpoints
from robustaug.models.hashing import Hashing

TEXTS = ["The film isn't bad.", "dull", "", "?!", "A truly wonderful, wonderful surprise of a film"]


@pytest.fixture
def model():
    made = robustaug.create("model.text_cnn", classes=3, dim=6, filters=4, buckets=512)
    return made.eval()


@pytest.mark.parametrize("widths", [[], [1], [1, 2, 3]])
def test_a_text_is_judged_by_itself_alone(widths):
    model = robustaug.create("model.text_cnn", dim=6, filters=4, widths=widths, buckets=512).eval()
    together = model(TEXTS)
    assert together.shape == (5, 2)
    for row, text in enumerate(TEXTS):
        assert torch.allclose(model([text])[0], together[row], atol=1e-6)


def test_padding_does_not_count_whatever_it_holds(model):
    embedded, mask = model.embed(TEXTS)
    assert (embedded.shape, mask.sum(1).tolist()) == ((5, 8, 6), [4, 1, 0, 0, 8])
    noisy = torch.where(mask[..., None], embedded, 1e6)
    assert torch.equal(model.from_embeddings(noisy, mask), model.from_embeddings(embedded, mask))


def test_words_are_those_of_the_operators_and_their_pieces_the_word_and_its_marked_runs():
    hashing = Hashing(1 << 20, 3, 4)
    pieces = hashing(["Isn't it", "it"])
    assert pieces.words == ["isn't", "it", "it"]
    assert (pieces.owner.tolist(), pieces.place.tolist()) == ([0, 0, 1], [0, 1, 0])
    assert (pieces.begin.tolist(), pieces.end.tolist()) == ([0, 6, 0], [5, 8, 2])
    # <it>: itself; <it and it>; <it> once more as a run of four
    assert pieces.first.tolist() == [0, 10, 14]
    assert hashing.rows_of("it")[0] == hashing.rows_of("it")[3]
    shared = {*hashing.rows_of("wonderful")} & {*hashing.rows_of("wonderfull")}
    assert len(shared) >= 10


def test_the_face_of_hotflip_gives_the_same_logits_for_words_met_and_unmet(model):
    model.meet(["the film is a surprise", "a film", "a bad one"])
    assert model.vocabulary[:2] == ["a", "film"]
    assert len(model.vocabulary) == len(model.embeddings)
    assert isinstance(model, TokenModel)
    tokens = model.tokens(TEXTS)
    with torch.no_grad():
        assert torch.allclose(
            model.logits_from_embeddings(model.embeddings[tokens.ids], tokens), model(TEXTS), atol=1e-5
        )
    own = tokens.ids[0, : int((tokens.begin[0] >= 0).sum())]
    assert [model.vocabulary[row] for row in own.tolist() if model.vocabulary[row]] == ["the", "film", "bad"]


def test_hotflip_works_on_it_and_its_flips_are_words_that_were_met():
    """A bag of words in one dimension: a text is good where the sum of its words is above 0."""
    model = robustaug.create("model.text_cnn", dim=1, widths=[], ngrams=[0, 0]).eval()
    value = {"good": 1.0, "fine": 1.5, "bad": -1.0, "grim": -2.0}
    with torch.no_grad():
        model.module.table.weight.zero_()
        for word, one in value.items():
            model.module.table.weight[model.module.hashing.rows_of(word)] = one
        model.module.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        model.module.head.bias.zero_()
    model.meet([*value])
    result = robustaug.create("attack.text_hotflip", max_edits=1, max_rate=1.0)(
        model, ["a good thing", "so bad"], [1, 0]
    )
    assert result.text_adv == ["a grim thing", "so fine"]
    assert (result.success & result.verified).all()


def test_words_travel_with_the_weights_and_only_whole_ones(model, tmp_path):
    small = robustaug.create("model.text_cnn", vocabulary_bytes=11, buckets=8)
    small.meet(["alpha beta beta gamma"])
    assert small.vocabulary[:-8] == ["beta", "alpha"]
    model.meet(["one", "two"])
    checkpoints.save(tmp_path / "m.safetensors", model)
    other = robustaug.create("model.text_cnn", classes=3, dim=6, filters=4, buckets=512, seed=9)
    checkpoints.load_into(tmp_path / "m.safetensors", other)
    assert other.vocabulary == model.vocabulary
    assert torch.equal(other.eval()(TEXTS), model(TEXTS))


def test_what_is_no_list_of_texts_is_refused(model):
    for wrong in ("one text", torch.zeros(2, 3), [b"bytes"]):
        with pytest.raises(TypeError, match="takes a list of str"):
            model(wrong)
    with pytest.raises(TypeError, match="takes a tensor, got list"):
        robustaug.create("model.mlp", features=2)(["text"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dim": 0}, "dim must be a whole number >= 1"),
        ({"widths": [0]}, "widths must be a whole number >= 1, got 0"),
        ({"ngrams": [5, 3]}, "ngrams must be a whole number >= 5, got 3"),
        ({"ngrams": [0, 5]}, "ngrams must be a whole number >= 1, got 0"),
        ({"ngrams": [3, 5, 7]}, r"ngrams must be a least and a greatest length, got \[3, 5, 7\]"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_numbers_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        robustaug.create("model.text_cnn", **params)

import json

import pytest
import torch

import robustaug
from robustaug.models.classifier import require_eval
from robustaug.rng import Keys, torch_seed
from robustaug.train.view import View

transformers = pytest.importorskip("transformers")


def stored(folder, model, side="right"):
    """A tiny classifier of texts in a folder, with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "a", "fine", "dull", "film"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", padding_side=side
    ).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def encoder(kind="Bert", **params):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=6,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        num_labels=3,
        pad_token_id=0,
        **{"max_position_embeddings": 16} | params,
    )
    with torch_seed(0):
        return getattr(transformers, f"{kind}ForSequenceClassification")(config)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("bert"), encoder())


def test_a_hugging_face_text_classifier_can_be_cut_at_its_embeddings(bert):
    before = torch.random.get_rng_state()
    model = robustaug.create("model.huggingface_text", name=str(bert))
    assert torch.equal(before, torch.random.get_rng_state())
    require_eval(model)
    texts = ["a fine film", "dull"]
    read = model.module.tokenizer(texts, padding=True, return_tensors="pt")
    logits = model.module.module(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).logits
    assert model.num_classes == 3
    assert torch.allclose(model(texts), logits, atol=1e-6)
    assert torch.allclose(model(texts[1:]), logits[1:], atol=1e-5)
    with pytest.raises(AttributeError, match=r"offers no vocabulary, as model\.text_cnn does"):
        _ = model.vocabulary
    loss = robustaug.create("loss.freelb")
    view = View(texts, torch.tensor([0, 1]), torch.arange(2), Keys.of(0, 2))
    loss(model, view, {}).sum().backward()
    assert model.module.module.get_input_embeddings().weight.grad.abs().sum() > 0


def test_a_head_of_another_size_is_drawn_only_where_that_is_asked_for(bert, tmp_path):
    with pytest.raises(ValueError, match=r"mismatch|does not fill"):
        robustaug.create("model.huggingface_text", name=str(bert), classes=5)
    one, two = (
        robustaug.create("model.huggingface_text", name=str(bert), classes=5, fresh_head=True, seed=1) for _ in "ab"
    )
    assert torch.equal(one(["a film"]), two(["a film"]))
    assert one(["a film"]).shape == (1, 5)
    with pytest.raises(ValueError, match="cannot load"):
        robustaug.create("model.huggingface_text", name=str(tmp_path))


def test_it_is_asked_from_its_tokens_and_from_its_embeddings_alike(bert, monkeypatch):
    model = robustaug.create("model.huggingface_text", name=str(bert))
    texts = ["a fine film", "dull"]
    cut = model.from_embeddings(*model.embed(texts))
    monkeypatch.setattr(model.module, "embed", None)
    assert torch.allclose(model(texts), cut, atol=1e-6)


@pytest.mark.parametrize(("kind", "positions"), [("Bert", 16), ("Roberta", 15)])
def test_texts_are_cut_to_the_positions_there_are(kind, positions, tmp_path):
    folder = stored(tmp_path, encoder(kind))
    model = robustaug.create("model.huggingface_text", name=str(folder))
    long = " ".join(["dull"] * 40)
    assert model.embed([long])[1].shape == (1, positions)
    assert model([long]).isfinite().all()
    with pytest.raises(
        ValueError, match=f"longest must be at most the {positions} positions of .*, got {positions + 1}"
    ):
        robustaug.create("model.huggingface_text", name=str(folder), longest=positions + 1)
    with pytest.raises(ValueError, match="longest must be a whole number >= 1, got 0"):
        robustaug.create("model.huggingface_text", name=str(folder), longest=0)
    assert robustaug.create("model.huggingface_text", name=str(folder), longest=4).embed([long])[1].shape == (1, 4)


def test_answers_that_depend_on_padding_are_refused(bert, tmp_path):
    config = transformers.GPT2Config(vocab_size=6, n_positions=16, n_embd=8, n_layer=1, n_head=2, pad_token_id=0)
    with torch_seed(0):
        decoder = transformers.GPT2ForSequenceClassification(config)
    stored(tmp_path / "decoder", decoder)
    stored(tmp_path / "left", encoder(), side="left")
    for folder in ("decoder", "left"):
        with pytest.raises(ValueError, match="answers a text otherwise beside a longer one"):
            robustaug.create("model.huggingface_text", name=str(tmp_path / folder))
    settings = json.loads((bert / "tokenizer_config.json").read_text())
    stored(tmp_path / "bare", encoder())
    (tmp_path / "bare" / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": None}))
    with pytest.raises(ValueError, match="has no padding token"):
        robustaug.create("model.huggingface_text", name=str(tmp_path / "bare"))

"""Paraphrase and back-translation with a tiny model of random weights, made here."""

import pickle

import pytest
import torch

import robustaug
from robustaug.config import validate
from robustaug.evaluate.suite import Suite, make_operator
from robustaug.pipeline import build_operator
from robustaug.rng import Keys, torch_seed

transformers = pytest.importorskip("transformers")

WORDS = ["the", "a", "film", "good", "bad", "is", "was", "not", "and", "it", "very", "story", "of", "to", "in"]
TEXTS = ["the film is good", "the story was very bad and it is not good", "a film", "", "of \ud800 to"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = str(tmp_path_factory.mktemp("t5"))
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=12, **special)
    tokenizer.save_pretrained(folder)
    config = transformers.T5Config(
        vocab_size=len(vocabulary), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    with torch_seed(0):
        transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def paraphrase(model, **params):
    return robustaug.create("text.paraphrase", model=model, max_new_tokens=6, local_files_only=True, **params)


def test_texts_out_for_texts_in_and_alone_as_in_a_batch(model):
    operator = paraphrase(model, temperature=1.0)
    state = torch.random.get_rng_state()
    out = operator(TEXTS, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(out) == 5
    assert out[3] == ""
    assert out[0] != TEXTS[0]
    assert [operator(text, seed=1, index=i) for i, text in enumerate(TEXTS)] == out
    assert operator(TEXTS, seed=2) != out
    assert operator(["word " * 100, TEXTS[0]], seed=1, index=[9, 0])[1] == out[0]  # the long one is cut


def test_at_temperature_zero_the_seed_does_not_matter(model):
    assert paraphrase(model, temperature=0)(TEXTS, seed=1) == paraphrase(model, temperature=0)(TEXTS, seed=2)


def test_severities_leave_the_likeliest_more_and_more_often(model):
    likeliest = paraphrase(model, temperature=0)(TEXTS[0])
    many = [TEXTS[0]] * 200
    kept = [paraphrase(model, severity=s)(many).count(likeliest) for s in (1, 2, 3, 4, 5)]
    assert kept[0] > kept[1] > kept[2] > max(kept[3:])


def test_draws_follow_the_models_chances(model):
    operator = paraphrase(model, temperature=1.0)
    network = transformers.T5ForConditionalGeneration.from_pretrained(model)
    tokens = transformers.AutoTokenizer.from_pretrained(model)
    given = torch.tensor([tokens("the film is good")["input_ids"]])
    with torch.no_grad():
        logits = network(input_ids=given, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits
    chances = logits[0, 0].softmax(0)
    one = robustaug.create("text.paraphrase", model=model, max_new_tokens=1, temperature=1.0)
    first = one(["the film is good"] * 600)
    assert operator.options["max_new_tokens"] == 6
    for word in WORDS:
        expected = float(chances[tokens.get_vocab()[word]])
        assert abs(first.count(word) / 600 - expected) < 4 * (expected / 600) ** 0.5


def test_what_was_made_can_be_written_down(model):
    operator = paraphrase(model, prefix="very ", temperature=0.5, p=0.5)
    out = operator(TEXTS, seed=3)
    assert eval(repr(operator), {"robustaug": robustaug})(TEXTS, seed=3) == out
    assert pickle.loads(pickle.dumps(operator))(TEXTS, seed=3) == out
    assert operator.apply(TEXTS, operator.sample(Keys.of(3, 5))) == out
    assert build_operator(operator.spec()) == operator


def test_there_and_back(model):
    options = {"max_new_tokens": 5, "local_files_only": True, "temperature": 1.0}
    back = robustaug.create("text.back_translation", forward=model, backward=model, **options)
    out = back(TEXTS, seed=1)
    params = back.sample(Keys.of(1, 5))
    there = robustaug.create("text.paraphrase", model=model, **options)
    first = there.apply(TEXTS, {"temperature": params["temperature"], "noise": params["noise"]})
    assert there.apply(first, {"temperature": params["temperature"], "noise": params["back"]}) == out


def test_mistakes_are_named(model, tmp_path):
    with pytest.raises(TypeError, match="model"):
        robustaug.create("text.paraphrase")
    with pytest.raises(ValueError, match=r"text\.back_translation: backward must be a model's name or folder, got 3"):
        robustaug.create("text.back_translation", forward=model, backward=3)
    with pytest.raises(ValueError, match=r"max_new_tokens must be a whole number >= 1, got 0"):
        robustaug.create("text.paraphrase", model=model, max_new_tokens=0)
    with pytest.raises(TypeError, match="has no parameter 'temprature'; did you mean 'temperature'"):
        robustaug.create("text.paraphrase", model=model, temprature=1)
    with pytest.raises(ValueError, match="cannot load the sequence-to-sequence model"):
        robustaug.create("text.paraphrase", model=str(tmp_path), local_files_only=True)("text")


def test_weights_that_are_pickles_are_refused(model, tmp_path):
    import shutil

    folder = tmp_path / "pickled"
    shutil.copytree(model, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot load"):
        robustaug.create("text.paraphrase", model=str(folder), local_files_only=True)("text")


def test_a_suite_names_it_with_its_model(model):
    spec = {"text.paraphrase": {"model": model, "max_new_tokens": 6, "local_files_only": True}}
    scenarios = {"other words": {"operators": [spec], "severities": [3]}}
    _, plan = validate({"scenarios": scenarios}, Suite, "suite").plans()
    assert plan.scenario == "text.paraphrase"
    assert make_operator(plan.spec, plan.severity)(TEXTS) == paraphrase(model, severity=3)(TEXTS)

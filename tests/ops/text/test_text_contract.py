"""What every operator on text in the registry promises. The models' ones: test_seq2seq.py."""

import copy
import math
import pickle
import random

import numpy as np
import pytest
import torch

import robustaug
from robustaug.drawn_params import load_params, save_params
from robustaug.ops.operator import SEVERITIES, take
from robustaug.pipeline import OneOf, Pipeline, SomeOf, build_operator
from robustaug.registry import lookup
from robustaug.rng import Keys

NAMES = [n for n in robustaug.list(kind="operator", modality="text") if "model" not in lookup(n).tags]
LEVELS = {"character", "word", "sentence", "markup", "model"}
every = pytest.mark.parametrize("name", NAMES)


def edits(before: str, after: str) -> int:
    """Levenshtein's distance, a row at a time."""
    a, b = (np.array([ord(c) for c in text], np.int64) for text in (before, after))
    steps = np.arange(len(b) + 1)
    row = steps.copy()
    for i, code in enumerate(a):
        best = np.minimum(row[1:] + 1, row[:-1] + (b != code))
        row = np.minimum.accumulate(np.concatenate([[i + 1], best]) - steps) + steps
    return int(row[-1])


def test_edit_distance_of_known_cases():
    assert [edits(*pair) for pair in [("kitten", "sitting"), ("", "abc"), ("ab", "ba"), ("x", "x")]] == [3, 3, 2, 0]


def test_the_room_is_whole():
    assert len(NAMES) == 32
    assert robustaug.list(modality="text", tag="model") == ["text.back_translation", "text.paraphrase"]
    for level in LEVELS:
        assert robustaug.list(modality="text", tag=level)


@pytest.mark.parametrize("name", robustaug.list(kind="operator", modality="text"))
def test_is_documented_and_says_whether_the_label_stays(name):
    entry = lookup(name)
    assert len(entry.tags & LEVELS) == 1
    assert len(entry.summary) > 20
    assert "label" in entry.factory.__doc__
    assert ("label_preserving" in entry.tags) == ("Not label-preserving" not in entry.factory.__doc__)
    assert all(space.describe() for space in entry.factory.declared.values())


@every
def test_texts_in_as_many_texts_out_and_the_input_is_left_alone(name, texts):
    before = [*texts]
    out = robustaug.create(name)(texts, seed=1)
    assert texts == before
    assert isinstance(out, list)
    assert len(out) == len(texts)
    assert all(isinstance(text, str) for text in out)
    assert out != texts
    assert robustaug.create(name)(texts[0], seed=1) == out[0]


@every
def test_a_text_gets_the_same_whatever_the_batch_and_the_order(name, texts):
    operator = robustaug.create(name, p=0.8, severity=3)
    index = [40, 3, 17, 8, 0, 2**40, *range(100, 118)]
    whole = operator(texts, seed=5, epoch=2, index=index)
    assert [operator(t, seed=5, epoch=2, index=i) for t, i in zip(texts, index, strict=True)] == whole
    order = random.Random(1).sample(range(24), 24)
    mixed = operator([texts[i] for i in order], seed=5, epoch=2, index=[index[i] for i in order])
    assert mixed == [whole[i] for i in order]


@every
def test_a_batch_larger_than_a_chunk(name, texts):
    operator = robustaug.create(name, p=0.9)
    many = (texts * 50)[:1100]
    out = operator(many, seed=1)
    assert len(out) == 1100
    assert operator(many[1000:], seed=1, index=list(range(1000, 1100))) == out[1000:]


@every
def test_draws_follow_the_seed_and_nothing_global(name, texts):
    operator = robustaug.create(name)
    states = random.getstate(), torch.random.get_rng_state()
    first = operator(texts, seed=3)
    random.seed(8)
    torch.manual_seed(8)
    assert operator(texts, seed=3) == first
    random.setstate(states[0])
    torch.random.set_rng_state(states[1])
    assert operator(texts, seed=4) != first
    assert operator(texts, seed=3, epoch=1) != first


@every
def test_at_its_identity_and_at_p_zero_nothing_changes(name, texts):
    declared = lookup(name).factory.declared
    still = {key: space.identity for key, space in declared.items() if space.identity is not None}
    assert still
    assert robustaug.create(name, **still)(texts) == texts
    assert robustaug.create(name, p=0)(texts) == texts
    half = robustaug.create(name, p=0.5, severity=5)
    active = half.sample(Keys.of(0, 24))["active"]
    changed = robustaug.create(name, severity=5)(texts)
    picked = [new if on else old for old, new, on in zip(texts, changed, active.tolist(), strict=True)]
    assert half(texts) == picked


@every
def test_distance_grows_with_severity(name, texts):
    assert lookup(name).factory.has_severities()
    distances = []
    for severity in SEVERITIES:
        out = robustaug.create(name, severity=severity)(texts[:12], seed=5)
        distances.append(sum(edits(a, b) for a, b in zip(texts, out, strict=False)))
    assert distances[0] > 0
    assert distances == sorted(distances)
    assert distances[4] > 1.5 * distances[0]


@every
def test_drawn_parameters_replay_exactly_and_are_written_down(name, texts, tmp_path):
    operator = robustaug.create(name, severity=4, p=0.8)
    params = operator.sample(Keys.of(9, 24))
    kept = copy.deepcopy(params)
    save_params(tmp_path / "p.safetensors", params)
    out = operator(texts, seed=9)
    assert operator.apply(texts, load_params(tmp_path / "p.safetensors")) == out
    assert all(torch.equal(params[key], kept[key]) for key in kept)
    rows = torch.tensor([5, 1, 9])
    assert operator.apply([texts[i] for i in rows], take(params, rows)) == [out[i] for i in rows]
    assert eval(repr(operator), {"robustaug": robustaug}) == operator
    assert build_operator(operator.spec())(texts, seed=9) == out
    assert pickle.loads(pickle.dumps(operator))(texts, seed=9) == out
    pipeline = Pipeline([operator, "text.ocr"])
    assert Pipeline.from_yaml(pipeline.to_yaml()) == pipeline
    assert pickle.loads(pickle.dumps(pipeline))(texts) == pipeline(texts)


@every
def test_empty_batches_and_empty_texts(name):
    for severity in (1, 5):
        operator = robustaug.create(name, severity=severity)
        assert operator([]) == []
        assert operator("") == ""
        assert operator(["", "", ""]) == ["", "", ""]
        mixed = operator(["", "Don't! Two films. A good one in Paris.", "", "x", " ", ".", ""], seed=2)
        assert len(mixed) == 7
        assert mixed[0] == mixed[2] == mixed[6] == ""


@every
def test_mistakes_are_named(name):
    with pytest.raises(TypeError, match=f"{name} has no parameter 'ratte'; did you mean 'rate'"):
        robustaug.create(name, ratte=1)
    for key, space in lookup(name).factory.declared.items():
        if space.distribution == "uniform":
            with pytest.raises(ValueError, match=f"{name}: {key} must be a finite number, got nan"):
                robustaug.create(name, **{key: math.nan})
            with pytest.raises(ValueError, match=f"{name}: {key} must be <= 1, got 2"):
                robustaug.create(name, **{key: 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"bytes", r"must be a str or a list of str, got bytes; text\.decode\(\) makes a str"),
        (("a", "b"), r"got tuple; list\(text\) converts sequences"),
        (torch.zeros(3), "got Tensor"),
        (None, "got NoneType"),
        (["a", None], "must be a list of str, got NoneType at position 1"),
    ],
)
def test_what_is_no_text_is_refused(text, message):
    with pytest.raises(TypeError, match=message):
        robustaug.create("text.keyboard")(text)


def test_keys_and_parameters_of_another_batch_are_refused():
    operator = robustaug.create("text.keyboard")
    with pytest.raises(ValueError, match="one entry a sample: 2 texts, 3 indices"):
        operator(["a", "b"], index=[1, 2, 3])
    with pytest.raises(ValueError, match="'rate' was drawn for 3 samples, the text has 2"):
        operator.apply(["a", "b"], operator.sample(Keys.of(0, 3)))


def test_texts_go_through_pipelines_and_do_not_mix_with_images(texts):
    pipeline = Pipeline.from_yaml(
        """
        - text.keyboard: {p: 0.5}
        - compose.one_of: {of: [text.drop_words, text.ocr], p: 0.9}
        - compose.some_of: {of: [text.casing, text.leet, text.emoji_noise], n: [1, 2]}
        """
    )
    whole = pipeline(texts, seed=1)
    assert pipeline(texts[7], seed=1, index=7) == whole[7]
    assert pipeline(texts[3:9], seed=1, index=list(range(3, 9))) == whole[3:9]
    assert pipeline([]) == []
    params = pipeline.sample(Keys.of(1, 24))
    assert pipeline.apply(texts, params) == whole
    for combinator in (Pipeline, OneOf, SomeOf):
        with pytest.raises(ValueError, match="mixes operators on image and text; a pipeline has one kind of data"):
            combinator(["image.invert", "text.ocr"])

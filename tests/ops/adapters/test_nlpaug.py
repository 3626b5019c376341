"""nlpaug's augmenters by name: its result, our keys."""

import pickle
import random

import numpy as np
import pytest
import torch

import robustaug
from robustaug.ops.adapters.nlpaug import global_seed, library
from robustaug.pipeline import Pipeline
from robustaug.rng import Keys

try:
    KNOWN = library()
except ImportError as missing:
    pytest.skip(str(missing), allow_module_level=True)

TEXTS = ["The quick brown fox jumps over the lazy dog .", "", "  ", "We believe it is a wonderful story about friends."]
AUGMENTERS = {
    "char.KeyboardAug": {},
    "char.OcrAug": {"aug_char_p": 0.5},
    "char.RandomCharAug": {"action": "swap"},
    "word.RandomWordAug": {"action": "swap"},
    "word.SpellingAug": {"aug_p": 0.5},
    "word.SplitAug": {},
}
every = pytest.mark.parametrize("name", AUGMENTERS)


@every
def test_a_text_gets_the_same_whatever_the_batch(name):
    operator = robustaug.create(f"nlpaug.{name}", **AUGMENTERS[name])
    out = operator(TEXTS, seed=1)
    assert len(out) == 4
    assert out[1:3] == TEXTS[1:3]
    assert out != TEXTS
    assert [operator(text, seed=1, index=i) for i, text in enumerate(TEXTS)] == out
    assert len({tuple(operator(TEXTS, seed=seed)) for seed in range(8)}) > 1
    assert eval(repr(operator), {"robustaug": robustaug})(TEXTS, seed=1) == out
    assert pickle.loads(pickle.dumps(operator))(TEXTS, seed=1) == out
    assert robustaug.create(f"nlpaug.{name}", **AUGMENTERS[name], p=0)(TEXTS) == TEXTS


@every
def test_it_is_nlpaugs_own_result_and_the_global_generators_are_left_alone(name):
    operator = robustaug.create(f"nlpaug.{name}", **AUGMENTERS[name])
    seed = int(operator.sample(Keys.of(7, 4))["seed"][3])
    states = random.getstate(), np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    ours = operator(TEXTS[3], seed=7, index=3)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), states[2])
    with global_seed(seed):
        theirs = KNOWN[name](**AUGMENTERS[name]).augment(TEXTS[3])
    assert [ours] == theirs


def test_it_goes_with_ours():
    pipeline = Pipeline.from_yaml("[{nlpaug.word.SplitAug: {aug_p: 0.5, p: 0.8}}, text.casing]")
    assert Pipeline.from_yaml(pipeline.to_yaml()) == pipeline
    assert pipeline(TEXTS)[3] == pipeline(TEXTS[3], index=3)
    with pytest.raises(ValueError, match="mixes operators on image and text"):
        Pipeline(["nlpaug.word.SplitAug", "image.invert"])


def test_mistakes_are_named():
    with pytest.raises(
        ValueError, match=r"nlpaug has no text transform 'word\.SplitAgu'; did you mean 'word\.SplitAug'"
    ):
        robustaug.create("nlpaug.word.SplitAgu")
    with pytest.raises(TypeError, match=r"nlpaug\.word\.SplitAug has no parameter 'aug_pp'; did you mean 'aug_p'"):
        robustaug.create("nlpaug.word.SplitAug", aug_pp=1)
    with pytest.raises(ValueError, match=r"nlpaug\.char\.RandomCharAug on 'The quick"):
        robustaug.create("nlpaug.char.RandomCharAug", candidates=3, spec_char=None)(TEXTS[0])
    with pytest.raises(TypeError, match="text must be a str or a list of str, got int"):
        robustaug.create("nlpaug.word.SplitAug")(3)

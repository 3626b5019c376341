import pickle

import numpy as np
import pytest
import torch

import robustaug
from robustaug.data import open_source
from robustaug.data.source import batches

VAL = {"data.digits": {"split": "val"}}
INVERT = {"image.invert": {}}


def spurious(of=VAL, **params):
    return robustaug.create("data.spurious", of=of, **params)


def pixels(source):
    [batch] = batches(source, len(source))
    return batch.image


def test_the_operator_is_applied_to_the_samples_with_the_cue_and_to_no_others():
    before, after = pixels(open_source(VAL)), spurious(operator=INVERT, agreement=0.8)
    there = torch.from_numpy(after.cohorts["cue"] == "with")
    assert torch.equal(pixels(after)[there], 255 - before[there])
    assert torch.equal(pixels(after)[~there], before[~there])
    assert torch.equal(pixels(pickle.loads(pickle.dumps(after))), pixels(after))


def test_the_cue_agrees_with_the_classes_as_often_as_asked():
    """1,797 draws: within 0.03, three standard errors at most."""
    source = spurious({"data.digits": {"split": "all"}}, classes=["1", "2"], agreement=0.8)
    belongs = (source.labels == 1) | (source.labels == 2)
    there = torch.from_numpy(source.cohorts["cue"] == "with")
    assert float((there == belongs).float().mean()) == pytest.approx(0.8, abs=0.03)
    names = np.where(belongs, "cued ", "other ").astype(object) + source.cohorts["cue"]
    assert [*source.cohorts["group"]] == [*names]
    assert torch.equal(torch.from_numpy(spurious(agreement=1.0).cohorts["cue"] == "with"), open_source(VAL).labels >= 5)


def test_draws_belong_to_the_sample():
    noise = {"image.gaussian_noise": {"sigma": 0.3}}
    whole, part = spurious({"data.digits": {"split": "all"}}, operator=noise), spurious(operator=noise)
    assert torch.equal(whole.fetch(part.sample_index.tolist())[0].image, pixels(part))
    fingerprints = {spurious(**p).fingerprint for p in ({}, {"seed": 1}, {"operator": noise}, {"agreement": 0.5})}
    assert len(fingerprints) == 4


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"agreement": 2}, r"agreement must be in \[0, 1\], got 2"),
        ({"classes": ["eleven"]}, "no class 'eleven'"),
        ({"operator": "image.invrt"}, "did you mean 'image.invert'"),
        ({"operator": {"image.center_crop": {"size": 4}}}, "must keep them"),
    ],
)
def test_mistakes_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        spurious(**params)

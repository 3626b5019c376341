import numpy as np
import pytest
import torch

import robustaug
from robustaug.data import open_source
from robustaug.data.images import InMemory
from robustaug.data.source import Source

SITE = np.array(["a", "b", "c", "d"])[np.arange(400) % 4]


def whole():
    pixels = InMemory(torch.zeros(400, 1, 2, 2, dtype=torch.uint8), "made")
    labels = torch.arange(400) // 4 % 2
    return Source("made", pixels, labels, ["no", "yes"], fingerprint="f", cohorts={"site": SITE, "day": SITE})


def domains(**params):
    return robustaug.create("data.domains", **({"of": whole(), "column": "site"} | params))


def index(source):
    return set(source.sample_index.tolist())


def test_keep_and_leave_out_choose_by_the_value():
    assert set(domains(keep=["a", "b"]).cohorts["site"]) == {"a", "b"}
    assert set(domains(leave_out="a").cohorts["site"]) == {"b", "c", "d"}
    assert index(domains(keep=["a"])) | index(domains(leave_out=["a"])) == set(range(400))
    assert set(domains(keep=["a", "b"], leave_out=[]).cohorts["site"]) == {"a", "b"}


def test_parts_named_by_domains_share_none():
    parts = {split: domains(split=split, val="c", test=["d"]) for split in ("train", "val", "test")}
    assert {split: set(part.cohorts["site"]) for split, part in parts.items()} == {
        "train": {"a", "b"},
        "val": {"c"},
        "test": {"d"},
    }


def test_random_parts_hold_each_class_of_each_domain_in_proportion_and_share_no_sample():
    shares = {"val_share": 0.1, "test_share": 0.2}
    parts = {split: domains(split=split, **shares) for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [280, 40, 80]
    for part in parts.values():
        for site in "abcd":
            labels = part.labels[torch.from_numpy(part.cohorts["site"] == site)]
            assert labels.bincount().tolist() == [len(part) // 8] * 2
    assert sum(len(index(part)) for part in parts.values()) == len(set.union(*map(index, parts.values()))) == 400


@pytest.mark.parametrize("seed", range(5))
def test_what_is_held_out_is_never_in_training_whichever_domains_are_asked_for(seed):
    """A sample of one part is in no other part, for any choice of domains on either side."""
    params = {"test": "d", "val_share": 0.25, "seed": seed}
    train, test = domains(split="train", leave_out="a", **params), domains(split="test", **params)
    assert not set(train.cohorts["site"]) & {"a", "d"}
    for keep in ("a", "b", ["c"], ["a", "b", "c"]):
        val = domains(split="val", keep=keep, **params)
        assert not index(val) & index(train)
        assert not index(test) & index(val)


def test_parts_do_not_depend_on_order_of_arguments_and_fingerprints_tell_them_apart():
    a, b, c = (domains(keep=keep) for keep in (["a", "b"], ["b", "a"], ["a", "c"]))
    assert a.fingerprint == b.fingerprint != c.fingerprint


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"column": "sit"}, r"made has no column 'sit'; did you mean 'site'\?.*\['site', 'day', 'class'\]"),
        ({"keep": ["A"]}, r"keep: no sample of made has site 'A'.*it has \['a', 'b', 'c', 'd'\]"),
        ({"test": 7}, "test: no sample of made has site '7'"),
        ({"keep": "a", "leave_out": ["a", "b"]}, "site 'a' is in keep and in leave_out"),
        ({"val": "a", "test": "a"}, "site 'a' is in val and in test"),
        ({"val": "a", "val_share": 0.1}, "val is given by domains and by val_share"),
        ({"split": "val"}, r"unknown split 'val'.*splits: \['all', 'train'\]"),
        ({"split": "train", "keep": "a", "test": "a"}, r"no sample is left in split 'train'.*keep: \['a'\]"),
        ({"val": ["a", "b"], "test": ["c", "d"]}, "nothing is left to train on"),
        ({"val_share": 0.5, "test_share": 0.5}, "leave nothing to train on"),
        ({"leave_out": ["a", "b", "c", "d"]}, "no sample is left"),
    ],
)
def test_mistakes_name_the_column_the_value_and_what_there_is(params, message):
    with pytest.raises(ValueError, match=message):
        domains(**params)


VAL = {"data.digits": {"split": "val"}}


def test_each_site_does_its_own_to_its_samples_and_nothing_to_others():
    before = open_source(VAL)
    after = robustaug.create("data.sites", of=VAL, sites={"x": "image.invert", "y": None}, column="place")
    pixels, made = (source.fetch(range(len(source)))[0].image for source in (before, after))
    at = torch.from_numpy(after.cohorts["place"] == "x")
    assert torch.equal(made[at], 255 - pixels[at])
    assert torch.equal(made[~at], pixels[~at])
    assert 0.4 < float(at.float().mean()) < 0.6
    part = robustaug.create("data.domains", of=after, column="place", keep="x")
    assert torch.equal(part.fetch(range(len(part)))[0].image, made[at])


def test_a_sample_is_at_the_same_site_in_every_part():
    parts = [robustaug.create("data.sites", of={"data.digits": {"split": split}}) for split in ("val", "all")]
    few, every = parts
    assert few.cohorts["site"].tolist() == every.cohorts["site"][few.sample_index.numpy()].tolist()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sites": {"x": None}}, "at least two"),
        ({"column": "ink"}, "has a column 'ink' already"),
        ({"sites": {"x": None, "y": "image.invrt"}}, "did you mean 'image.invert'"),
        ({"sites": {"x": None, "y": {"image.center_crop": {"size": 4}}}}, "data.sites: the operator makes"),
    ],
)
def test_mistakes_in_sites_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        robustaug.create("data.sites", of=VAL, **params)

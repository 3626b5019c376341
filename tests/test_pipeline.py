import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import ConfigError
from robustaug.drawn_params import load_params, save_params
from robustaug.ops.operator import Operator
from robustaug.ops.space import uniform
from robustaug.pipeline import OneOf, Pipeline, SomeOf, build, build_operator
from robustaug.rng import Keys

DEEP = """
- image.horizontal_flip: {p: 0.5}
- compose.one_of:
    of: [image.gaussian_noise, {image.brightness: {factor: [0.5, 0.9]}}, image.invert]
    weights: [1, 2, 3]
- compose.some_of:
    of: [image.rotate, image.gaussian_blur, {compose.sequential: {of: [image.contrast, image.gamma], p: 0.7}}]
    n: [0, 3]
    p: 0.9
"""


@pytest.fixture(scope="module")
def images():
    return torch.rand(24, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Mark(Operator):
    """Add value / 256: with powers of two, the sum tells which operators came."""

    name = "mark"
    value = uniform(0, 1, bounds=(0, None))

    def formula(self, image, value):
        return image + value.reshape(-1, 1, 1, 1) / 256


class Shrink(Operator):
    """Drop the last row."""

    name = "shrink"

    def formula(self, image):
        return image[:, :, :-1]


def mark(value):
    return Mark(value=value)


def marks(image):
    return (image[:, 0, 0, 0] * 256).round().to(torch.int64)


def test_operators_come_in_turn(images):
    pipeline = build([{"image.brightness": {"factor": 0.5}}, {"image.brightness": {"factor": 2.0}}])
    torch.testing.assert_close(pipeline(images), images)
    clipped = build([{"image.brightness": {"factor": 4.0}}, {"image.brightness": {"factor": 0.25}}])
    torch.testing.assert_close(clipped(images), (images * 4).clamp(0, 1) / 4)


def test_an_empty_pipeline_changes_nothing(images):
    assert torch.equal(build([])(images), images)


@pytest.mark.parametrize("batch", [1, 5, 24])
def test_a_sample_gets_the_same_whatever_the_batch_and_the_order(images, batch):
    pipeline = Pipeline.from_yaml(DEEP)
    whole = pipeline(images, seed=3, epoch=2)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    for rows in order.split(batch):
        torch.testing.assert_close(pipeline(images[rows], seed=3, epoch=2, index=rows), whole[rows], atol=1e-6, rtol=0)


def test_seed_and_epoch_change_the_draws(images):
    pipeline = Pipeline.from_yaml(DEEP)
    assert not torch.equal(pipeline(images, seed=0), pipeline(images, seed=1))
    assert not torch.equal(pipeline(images, epoch=0), pipeline(images, epoch=1))


def test_equal_operators_draw_for_themselves(images):
    params = build(["image.rotate", "image.rotate"]).sample(Keys.of(0, 100))
    assert not torch.equal(params["0"]["angle_deg"], params["1"]["angle_deg"])


@pytest.mark.parametrize("weights", [None, [1, 2, 5], [0, 1, 0]])
def test_one_of_applies_exactly_one_by_its_weight(weights):
    n = 4000
    out = marks(OneOf([mark(1), mark(2), mark(4)], weights=weights)(torch.zeros(n, 1, 1, 1), seed=1))
    shares = np.array(weights or [1, 1, 1]) / sum(weights or [1, 1, 1])
    counts = np.array([(out == value).sum() for value in (1, 2, 4)])
    assert counts.sum() == n
    spread = 4 * np.sqrt(n * shares * (1 - shares))  # four standard deviations of a binomial
    assert (np.abs(counts - n * shares) <= spread).all()


def test_some_of_applies_n_different_ones():
    out = marks(SomeOf([mark(1), mark(2), mark(4), mark(8)], n=2)(torch.zeros(2000, 1, 1, 1)))
    pairs, counts = out.unique(return_counts=True)
    assert pairs.tolist() == [3, 5, 6, 9, 10, 12]  # every pair, none twice in one
    assert (counts - 2000 / 6).abs().max() < 4 * (2000 * 5 / 36) ** 0.5


def test_some_of_draws_how_many_each_as_likely():
    out = marks(SomeOf([mark(1), mark(2), mark(4)], n=[0, 3])(torch.zeros(4000, 1, 1, 1)))
    applied = torch.stack([(out >> bit) & 1 for bit in range(3)]).sum(0)
    assert ((applied.bincount() - 1000).abs() < 4 * (4000 * 3 / 16) ** 0.5).all()


def test_some_of_comes_in_random_order_unless_ordered():
    flip, double = {"image.invert": {}}, {"image.brightness": {"factor": 0.5}}
    start = torch.full((200, 1, 1, 1), 0.2)
    free = SomeOf([flip, double], n=2)(start)[:, 0, 0, 0]
    kept = SomeOf([flip, double], n=2, ordered=True)(start)[:, 0, 0, 0]
    assert {round(float(v), 4) for v in free} == {0.4, 0.9}  # invert then halve; halve then invert
    assert {round(float(v), 4) for v in kept} == {0.4}


def test_p_of_a_combinator_is_the_chance_of_the_whole():
    out = marks(Pipeline([mark(1), mark(2)], p=0.25)(torch.zeros(4000, 1, 1, 1)))
    assert set(out.tolist()) == {0, 3}
    assert abs(int((out == 3).sum()) - 1000) < 4 * (4000 * 3 / 16) ** 0.5


def test_drawn_parameters_can_be_stored_and_replayed(images, tmp_path):
    pipeline = Pipeline.from_yaml(DEEP)
    params = pipeline.sample(Keys.of(5, 24))
    save_params(tmp_path / "params.safetensors", params)
    again = load_params(tmp_path / "params.safetensors")
    assert torch.equal(pipeline.apply(images, params), pipeline.apply(images, again))
    assert torch.equal(pipeline.apply(images, params), pipeline(images, seed=5))


def test_parameters_of_another_batch_or_a_damaged_file_are_refused(images, tmp_path):
    pipeline = Pipeline.from_yaml(DEEP)
    with pytest.raises(ValueError, match="was drawn for 7 samples, the image has 24"):
        pipeline.apply(images, pipeline.sample(Keys.of(0, 7)))
    path = tmp_path / "params.safetensors"
    save_params(path, pipeline.sample(Keys.of(0, 3)))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_params(path)


@pytest.mark.parametrize("text", [DEEP, "[]", "- image.invert", "- image.rotate: {angle_deg: 5, p: 0.2}"])
def test_yaml_reads_back_what_it_wrote(text, images, tmp_path):
    pipeline = Pipeline.from_yaml(text)
    again = Pipeline.from_yaml(pipeline.to_yaml())
    assert again == pipeline
    assert hash(again) == hash(pipeline)
    assert torch.equal(again(images), pipeline(images))
    pipeline.save(tmp_path / "pipeline.yaml")
    assert Pipeline.load(tmp_path / "pipeline.yaml") == pipeline
    assert eval(repr(pipeline), {"robustaug": robustaug}) == pipeline


def test_every_mistake_is_named_with_its_place():
    text = """
    - image.rotat
    - image.rotate: {angle: 5}
    - compose.one_of: {of: [image.invert, {image.brightness: {factor: -1}}, attack.pgd]}
    - [image.invert]
    - image.contrast: 3
    """
    with pytest.raises(ConfigError) as caught:
        Pipeline.from_yaml(text)
    lines = str(caught.value).split("\n")
    expected = [
        r"pipeline[0]: unknown name 'image.rotat'; did you mean 'image.rotate'",
        r"pipeline[1]: image.rotate has no parameter 'angle'; did you mean 'angle_deg'?",
        r"pipeline[2][1]: image.brightness: factor must be >= 0, got -1",
        r"pipeline[2][2]: 'attack.pgd' is of kind 'attack', not 'operator' or 'combinator'",
        r"pipeline[3]: must read `name` or `{name: parameters}`",
        r"pipeline[4]: 'image.contrast': its parameters must be a mapping, got 3",
    ]
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start), line


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneOf([]), "`of` must name at least one operator"),
        (lambda: OneOf(["image.invert"], weights=[1, 2]), "weights must be 1 numbers >= 0"),
        (lambda: OneOf(["image.invert"], weights=[0]), "with a positive sum"),
        (lambda: OneOf(["image.invert"], weights=[-1]), "numbers >= 0"),
        (lambda: SomeOf(["image.invert"], n=2), r"n must be within 0 to 1 \(its children\), got 2"),
        (lambda: SomeOf(["image.invert"], n=[1, 0]), "n must be within 0 to 1"),
        (lambda: Pipeline("image.invert"), "`of` must be a list of operators, got 'image.invert'"),
        (lambda: Pipeline([], p=2), r"p must be in \[0, 1\], got 2"),
        (lambda: build("image.invert"), "pipeline: must be a list of operators, got str"),
        (lambda: build_operator({"image.invert": {}, "image.rotate": {}}), "must read `name`"),
    ],
)
def test_bad_combinators(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_child_that_changes_the_size_is_named():
    with pytest.raises(ValueError, match=r"compose\.one_of: shrink changes the image size"):
        OneOf([Shrink(), "image.invert"])(torch.zeros(8, 1, 4, 4))
    assert Pipeline([Shrink()])(torch.zeros(8, 1, 4, 4)).shape == (8, 1, 3, 4)

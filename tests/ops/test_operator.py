"""The operator's face: layouts, chances, inheritance and messages."""

import pytest
import torch

import robustaug
from robustaug.ops.operator import Operator
from robustaug.ops.space import uniform
from robustaug.rng import Keys


class Shift(Operator):
    name = "image.shift"
    by = uniform(0, 0.5, severity=(0.1, 0.2, 0.3, 0.4, 0.5), bounds=(0, 1))

    def formula(self, image, by):
        return (image + by[:, None, None, None]).clamp(0, 1)


class ShiftAndDim(Shift):
    name = "image.shift_and_dim"
    factor = uniform(0.5, 1)

    def formula(self, image, by, factor):
        return super().formula(image, by) * factor[:, None, None, None]


def test_a_subclass_keeps_its_parents_parameters():
    operator = ShiftAndDim(severity=2)
    assert set(operator.sample(Keys.of(0, 2))) == {"by", "factor"}
    assert set(Shift.declared) == {"by"}


def test_an_explicit_value_wins_over_the_severity():
    operator = robustaug.create("image.rotate", severity=5, angle_deg=(-2, 2))
    angles = operator.sample(Keys.of(0, 200))["angle_deg"]
    assert angles.abs().max() <= 2
    assert len(angles.unique()) > 100


def test_p_is_the_share_of_changed_samples():
    active = Shift(p=0.3).sample(Keys.of(0, 20_000))["active"]
    assert abs(float(active.double().mean()) - 0.3) < 0.012


def test_uint8_is_rounded_to_the_nearest_level():
    out = Shift(by=0.3 / 255)(torch.full((1, 1, 1), 10, dtype=torch.uint8))
    assert out.item() == 10
    assert Shift(by=0.7 / 255)(torch.full((1, 1, 1), 10, dtype=torch.uint8)).item() == 11
    assert Shift(by=0.5)(torch.full((1, 1, 1), 250, dtype=torch.uint8)).item() == 255


def test_one_index_names_a_single_image():
    image = torch.full((1, 2, 2), 0.25)
    batch = Shift()(image.expand(8, -1, -1, -1))
    assert torch.equal(Shift()(image, index=7), batch[7])


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ([[0.0]], TypeError, "image must be a torch.Tensor, got list"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), TypeError, "uint8 or floating, got torch.int64"),
        (torch.zeros(4, 4), ValueError, r"\(C, H, W\) or \(B, C, H, W\), got \(4, 4\)"),
        (torch.zeros(2, 3, 0, 4), ValueError, "at least one channel, row and column"),
        (torch.full((3, 4, 4), 200.0), ValueError, "divide by 255, or pass uint8"),
        (torch.full((3, 4, 4), -1.0), ValueError, "undo the normalisation first"),
        (torch.full((3, 4, 4), float("nan")), ValueError, r"must be in \[0, 1\]"),
    ],
)
def test_images_it_cannot_read_are_refused(image, error, message):
    with pytest.raises(error, match=message):
        Shift()(image)


def test_parameters_of_another_batch_are_refused():
    operator = Shift()
    with pytest.raises(ValueError, match="parameter 'by' was drawn for 1 samples, the image has 3"):
        operator.apply(torch.zeros(3, 1, 2, 2), operator.sample(Keys.of(0, 1)))
    with pytest.raises(ValueError, match="3 images, 2 indices"):
        operator(torch.zeros(3, 1, 2, 2), index=[0, 1])


@pytest.mark.parametrize("severity", [0, 6, 1.5, "high", [1]])
def test_severity_is_one_to_five(severity):
    with pytest.raises(ValueError, match="severity must be 1, 2, 3, 4 or 5, got"):
        Shift(severity=severity)


def test_a_parameter_written_wrong_is_suggested():
    with pytest.raises(TypeError, match="has no parameter 'sigma'; did you mean 'sigma_px'"):
        robustaug.create("image.gaussian_blur", sigma=1)


def test_an_operator_without_a_formula_says_so():
    class Nothing(Operator):
        name = "image.nothing"

    with pytest.raises(NotImplementedError, match="Nothing must define formula"):
        Nothing()(torch.zeros(1, 2, 2))


def test_a_changed_size_needs_every_sample():
    class Halve(Operator):
        name = "image.halve"

        def formula(self, image):
            return image[..., ::2, ::2]

    assert Halve()(torch.zeros(4, 1, 8, 8)).shape == (4, 1, 4, 4)
    with pytest.raises(ValueError, match=r"changes the shape .* so it needs p=1"):
        Halve(p=0.5)(torch.zeros(40, 1, 8, 8))

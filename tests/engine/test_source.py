"""Formulas carried as text compute what they compute where they were written."""

import math

import pytest
import torch

import robustaug
from robustaug.engine.source import FormulaError, carry
from robustaug.ops import pixelwise
from robustaug.ops.image import camera, tone
from robustaug.ops.image.colour import Hue
from robustaug.ops.pixelwise import Number, where
from robustaug.rng import Keys

HALF = 0.5
WHOLE = 2


def _formulas():
    found = {}
    for name in robustaug.list(kind="operator", modality="image"):
        op = robustaug.create(name)
        try:
            steps = op.program(op.sample(Keys.of(0, 2)), (3, 8, 8), 2)
        except ValueError:
            continue
        for step in steps:
            for kernel in step.kernels:
                if kernel.formula is not None:
                    found[kernel.name] = kernel.formula
    return found


FORMULAS = _formulas()


def _compiled(carried, **names):
    scope = {word.__name__: word for word in pixelwise.WORDS} | names
    exec(carried.text, scope)
    return scope[carried.name]


@pytest.mark.parametrize("name", FORMULAS)
def test_the_text_needs_nothing_but_the_words(name):
    function = FORMULAS[name]
    arguments = torch.rand(function.__code__.co_argcount, 64, dtype=torch.float64, generator=torch.Generator())
    carried = carry(function)
    want, got = function(*arguments), _compiled(carried)(*arguments)
    assert carried.results == (len(want) if isinstance(want, tuple) else 1)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def test_numbers_are_computed_and_wrapped():
    carried = carry(tone.to_srgb, number="f32")
    assert f"f32({1 / 2.4!r})" in carried.text
    assert carried.words == {"where", "power", "maximum"}
    x = torch.linspace(0, 1, 33, dtype=torch.float64)
    assert torch.equal(_compiled(carried, f32=float)(x), tone.to_srgb(x))


def test_names_follow_from_content_alone():
    one, other = carry(tone.Gamma.value), carry(camera.amplified)
    assert one.name != carry(Hue.pixel).name
    assert one == carry(tone.Gamma.value)
    assert set(carry(tone.Exposure.value).functions) & set(other.functions) == {
        carry(tone.to_linear).name,
        carry(tone.to_srgb).name,
    }
    assert list(other.functions)[-1] == other.name
    assert carry(tone.Gamma.value, decorator="njit").text.startswith("@njit\ndef value_")


def _with_integers(x: Number) -> Number:
    return where(x > 0, WHOLE * x / 3, -HALF)


def test_integers_are_numbers():
    assert _compiled(carry(_with_integers))(torch.tensor(3.0)).item() == 2.0
    assert "2.0 * x / 3.0, -0.5" in carry(_with_integers).text


def _branches(x: Number) -> Number:
    return x if HALF else -x


def _foreign(x: Number) -> Number:
    return Hue(x)


def _twice(x: Number) -> Number:
    return math.floor(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_branches, r"_branches, line 2: IfExp is none of the words"),
        (_foreign, r"_foreign: 'Hue' is neither a number nor a function"),
        (_twice, r"_twice, line 2: Attribute is none of the words"),
        (len, r"len: its source cannot be read"),
    ],
)
def test_what_no_backend_can_compile_is_refused(function, message):
    with pytest.raises(FormulaError, match=message):
        carry(function)

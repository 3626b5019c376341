from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from robustaug.config import ConfigError, Ratio, Strict, load, parse_ratio, parse_yaml, read_yaml, validate


class Inner(Strict):
    rate: Ratio = 0.1
    steps: Annotated[int, Field(ge=1)] = 5


class Outer(Strict):
    name: str
    inner: Inner = Inner()
    several: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), (" 1 / 2 ", 0.5), (".5/2", 0.25), ("0.1", "0.1"), ("a/b", "a/b"), (3, 3), (None, None)],
)
def test_fractions_are_read_as_numbers_and_nothing_else(text, value):
    assert parse_ratio(text) == value


def test_a_fraction_by_zero_is_refused():
    with pytest.raises(ValueError, match=r"'1/0' divides by zero"):
        parse_ratio("1/0")
    with pytest.raises(ConfigError, match=r"c: inner\.rate: '1/0' divides by zero"):
        validate({"name": "a", "inner": {"rate": "1/0"}}, Outer, "c")


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("-2E5", -2e5), ("1.5e3", 1500.0), ("'1e-3'", "1e-3")])
def test_numbers_in_scientific_notation_are_numbers(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"<text>: not valid YAML: key 'a' is given twice in .* line 3"),
        ("a: {b: 1, b: 2}", "key 'b' is given twice"),
        ("a: [1", "not valid YAML: while parsing a flow sequence"),
        ("!!python/object/apply:os.system ['echo hacked']", "not valid YAML: could not determine a constructor"),
        ("a: !!python/name:os.system", "not valid YAML: could not determine a constructor"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: *nowhere", "found undefined alias"),
        ("\x00", "not valid YAML: unacceptable character"),
        ("&a [*a]", "an alias .* that holds itself"),
        ("a: 2026-13-01", "not valid YAML: month must be in 1..12"),
        ("{[a]: 1}", "a key must be a name or a number"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_bad_yaml_is_one_message(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text)


def test_aliases_are_read_but_cannot_grow_without_end():
    assert parse_yaml("a: &x {b: 1}\nc: *x") == {"a": {"b": 1}, "c": {"b": 1}}
    assert parse_yaml("a: &x {b: 1}\nc: {<<: *x, d: 2}")["c"] == {"b": 1, "d": 2}
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match=r"its aliases .* unfold to more than 100,000 values"):
        parse_yaml("\n".join(lines))


@given(st.text(max_size=80))
def test_any_text_is_a_value_or_a_config_error(text):
    try:
        parse_yaml(text)
    except ConfigError as error:
        assert "\n" not in str(error)


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config at .*nothing\.yaml; give the path of a YAML file"):
        read_yaml(tmp_path / "nothing.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: café".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 text"):
        read_yaml(path)
    path.write_text("- a\n- b")
    with pytest.raises(ConfigError, match=r"the top level must be a mapping of keys, got list"):
        load(path, Outer)
    path.write_text("")
    with pytest.raises(ConfigError, match=r"name: required, but missing"):
        load(path, Outer)


def test_every_mistake_is_named_at_once_with_its_place():
    mistaken = {"nam": "a", "inner": {"rate": "fast", "step": 3, "steps": 0}, "several": {"x": {"rat": 1}}}
    with pytest.raises(ConfigError) as caught:
        validate(mistaken, Outer, "c.yaml")
    lines = str(caught.value).split("\n")
    assert all(line.startswith("c.yaml: ") for line in lines)
    expected = [
        "name: required, but missing",
        "inner.rate: input should be a valid number, unable to parse string as a number, got 'fast'",
        "inner.steps: input should be greater than or equal to 1, got 0",
        "inner.step: unknown key; did you mean 'steps'?",
        "several.x.rat: unknown key; did you mean 'rate'?",
        "nam: unknown key; did you mean 'name'?",
    ]
    assert sorted(line.removeprefix("c.yaml: ") for line in lines) == sorted(expected)


def test_mistakes_in_one_of_several_types_of_a_value_are_placed_by_its_keys_alone():
    class Ways(Strict):
        of: str | Inner
        how: Literal["same"] | dict[str, int] | None = None
        names: list[str | dict[str, int]] = []

    with pytest.raises(ConfigError) as error:
        validate({"of": {"steps": 0, "rat": 1}, "how": "other", "names": [3]}, Ways, "c")
    assert str(error.value).splitlines() == [
        "c: of.Inner.steps: input should be greater than or equal to 1, got 0",
        "c: of.Inner.rat: unknown key; did you mean 'rate'?",
        "c: how: input should be 'same', got 'other'",
        "c: how: input should be a valid dictionary, got 'other'",
        "c: names.0.str: input should be a valid string, got 3",
        "c: names.0: input should be a valid dictionary, got 3",
    ]


def test_an_unknown_key_without_a_neighbour_shows_what_there_is():
    with pytest.raises(ConfigError, match=r"inner\.zzz: unknown key; known: \['rate', 'steps'\]"):
        validate({"name": "a", "inner": {"zzz": 1}}, Outer, "c")


def test_overrides_replace_and_leave_the_original_alone():
    data = {"name": "a", "inner": {"steps": 2}}
    made = validate(data, Outer, "c", ["inner.steps=7", "inner.rate=1/4", "several.new.steps=3", "name=b"])
    assert made == Outer(name="b", inner=Inner(rate=0.25, steps=7), several={"new": Inner(steps=3)})
    assert data == {"name": "a", "inner": {"steps": 2}}


def test_the_longest_key_with_dots_wins():
    class Open(Strict):
        attack: dict[str, dict[str, int]]

    made = validate({"attack": {"attack.pgd": {"steps": 1}}}, Open, "c", ["attack.attack.pgd.steps=9"])
    assert made.attack == {"attack.pgd": {"steps": 9}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", r"override must read key=value, got 'steps'"),
        ("=3", r"override must read key=value"),
        ("name.x=3", r"override 'name\.x=3': 'name' is not a mapping, it holds 'a'"),
        ("inner.steps=[1", r"override 'inner\.steps=\[1': not valid YAML"),
        ("inner.step=1", r"inner\.step: unknown key; did you mean 'steps'"),
    ],
)
def test_bad_overrides(override, message):
    with pytest.raises(ConfigError, match=message):
        validate({"name": "a"}, Outer, "c", [override])

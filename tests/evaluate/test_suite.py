import pytest

from robustaug.config import ConfigError, validate
from robustaug.evaluate.suite import Suite


def suite(**scenarios):
    return validate({"scenarios": scenarios}, Suite, "suite")


def test_clean_is_always_measured_and_each_condition_is_one_cell():
    plans = [
        *suite(
            noise={"operators": ["image.gaussian_noise", "image.brightness"], "severities": [1, 5]},
            pgd={"attack": "attack.pgd", "eps": ["8/255", 0.1], "seeds": [0, 1]},
            foreign={"ood": {"data.synthetic": {"size": 8, "n": 4}}},
        ).plans()
    ]
    assert plans[0].kind == "clean"
    assert [(p.scenario, p.severity) for p in plans if p.kind == "operator"] == [
        ("gaussian_noise", 1.0),
        ("gaussian_noise", 5.0),
        ("brightness", 1.0),
        ("brightness", 5.0),
    ]
    assert [(p.severity, p.seed) for p in plans if p.kind == "attack"] == [
        (8 / 255, 0),
        (0.1, 0),
        (8 / 255, 1),
        (0.1, 1),
    ]
    assert [p.scenario for p in plans if p.kind == "ood"] == ["foreign"]


def test_a_minimal_norm_attack_runs_once_and_an_attack_without_limit_needs_no_eps():
    plans = [
        *suite(
            near={"attack": "attack.fmn", "eps": [0.1, 0.2], "seeds": [0, 1]}, turned={"attack": "attack.spatial"}
        ).plans()
    ]
    assert [(p.kind, p.severity, p.seed, p.basis) for p in plans if p.scenario == "near"] == [
        ("nearest", 0.0, 0, ""),
        ("attack", 0.1, 0, "nearest"),
        ("attack", 0.2, 0, "nearest"),
        ("nearest", 0.0, 1, ""),
        ("attack", 0.1, 1, "nearest"),
        ("attack", 0.2, 1, "nearest"),
    ]
    assert [(p.kind, p.severity, p.basis) for p in plans if p.scenario == "turned"] == [("attack", 0.0, "")]
    assert [p.severity for p in suite(turned={"attack": "attack.spatial"}).plans() if p.kind == "masking"] == [0.0]


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ({}, "exactly one of operators, data, attack, certify, ood, sequence and cue"),
        ({"operators": ["image.brightness"], "data": "data.digits"}, "exactly one"),
        ({"data": "image.blur"}, "unknown|is no source"),
        ({"data": "data.digit"}, "did you mean 'data.digits'"),
        ({"certify": {"sigma": 0.25}}, "radii must be > 0"),
        ({"certify": {"sigma": 0.25}, "radii": [0.2, 1.0]}, "n = 1000 and alpha = 0.001, at most 0.6158"),
        ({"certify": {"sigma": 0.25}, "radii": [0.0]}, "radii must be > 0"),
        ({"certify": {"sigma": -0.25}, "radii": [0.1]}, "sigma: .*greater than 0"),
        ({"certify": {"sigma": 0.25, "alpha": 1}, "radii": [0.1]}, "alpha: .*less than 1"),
        ({"certify": {"sigma": 0.25, "n": 5}, "radii": [0.1]}, "n = 5 draws certify nothing .* n must be >= 10"),
        ({"certify": {"sigma": 0.25, "n0": 0}, "radii": [0.1]}, "n0: .*greater than or equal to 1"),
        ({"certify": {"sigma": 0.25, "m": 5}, "radii": [0.1]}, "certify.m: unknown key"),
        ({"attack": "attack.pgd", "eps": [0.1], "radii": [0.1]}, "radii are for a certificate"),
        ({"operators": ["image.brightness"], "ood": "data.digits"}, "exactly one"),
        ({"attack": "attack.pgd"}, "attack and eps go together"),
        ({"operators": ["image.brightness"], "severities": [6]}, "severities must be among 1 to 5"),
        ({"operators": ["image.brightnes"]}, "did you mean 'image.brightness'"),
        ({"operators": ["attack.pgd"]}, "no operator with severities"),
        ({"attack": "attack.pgd", "eps": [-0.1]}, "eps must be > 0"),
        ({"attack": "attack.spatial", "eps": [float("inf")]}, "finite"),
        ({"attack": "attack.pgd", "eps": [0]}, "clean accuracy is always measured"),
        ({"attack": "attack.pgd", "eps": [8]}, "did you mean 8/255"),
        ({"attack": {"attack.pgd": {"eps": 0.1}}, "eps": [0.1]}, "eps stands beside the attack"),
        (
            {"attack": {"attack.strongest": {"attacks": [{"attack.pgd": {"eps": 0.2}}]}}, "eps": [0.2, 0.1]},
            "leave it out",
        ),
        ({"attack": {"attack.pgd": {"stepps": 1}}, "eps": [0.1]}, "did you mean 'steps'"),
        ({"attack": "attack.fmn"}, "attack and eps go together: `attack: attack.fmn`"),
        ({"attack": "image.brightness", "eps": [0.1]}, "is no attack on tensors"),
        ({"operators": ["image.brightness"], "eps": [0.1]}, "eps is for an attack"),
        ({"attack": "attack.text_char", "eps": [0.1]}, "'attack.text_char' attacks texts, not images"),
        ({"attack": "attack.pgd", "eps": [0.1], "stepz": 3}, "unknown key"),
    ],
)
def test_a_wrong_scenario_names_its_mistake(scenario, message):
    with pytest.raises(ConfigError, match=message):
        suite(s=scenario)


def test_the_same_cell_twice_is_refused():
    with pytest.raises(ConfigError, match="given twice"):
        suite(a={"operators": ["image.brightness"]}, b={"operators": ["image.brightness"]})


def test_a_scenario_is_not_called_as_an_operator_is():
    """Both accuracies would be the figure `brightness`, and a gate on it would read one of them."""
    for name in ("brightness", "corruption"):
        with pytest.raises(ConfigError, match=f"'{name}' is what figures of operators are called"):
            suite(**{"a": {"operators": ["image.brightness"]}, name: {"data": "data.digits"}})


def test_reseeding_shifts_every_scenario():
    first = suite(a={"operators": ["image.brightness"], "severities": [1], "seeds": [0, 1]})
    assert [p.seed for p in first.reseeded(10).plans() if p.kind == "operator"] == [10, 11]

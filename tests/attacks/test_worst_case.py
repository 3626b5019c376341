"""The worst case of operators: known optima, replay, and every registered operator."""

import json
import math

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.attacks.execution import Execution
from robustaug.rng import Keys

ROTATE = {"image.rotate": {"angle_deg": [-30, 30]}}


class Seeing(nn.Module):
    """Right unless the image's feature comes within `slack` of `worst`."""

    def __init__(self, feature, worst, slack):
        super().__init__()
        self.feature, self.worst, self.slack, self.seen = feature, worst, slack, []

    def forward(self, x):
        height = self.slack - (self.feature(x) - self.worst).abs()
        self.seen.append(x.detach())
        return torch.stack([-height, height], 1)


def brightness(worst, slack):
    return Seeing(lambda x: x.flatten(1).mean(1), worst, slack).eval()


def angle(worst_deg, slack_deg):
    """Reads the angle of a bar through the centre from its second moments."""

    def feature(x):
        side = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype)
        right, down = side.expand(len(side), -1), side[:, None].expand(-1, len(side))
        total = x.sum((1, 2, 3))
        xx, yy, xy = ((x[:, 0] * m).sum((1, 2)) / total for m in (right**2, down**2, -right * down))
        return torch.rad2deg(torch.atan2(2 * xy, xx - yy) / 2)

    return Seeing(feature, worst_deg, slack_deg).eval()


def bar(n):
    side = torch.linspace(-1, 1, 25, dtype=torch.float64)
    inside = (side.abs()[None] < 0.6) & (side.abs()[:, None] < 0.15)
    return inside.double().expand(n, 1, 25, 25).clone(), torch.zeros(n, dtype=torch.int64)


def grey(n, value=0.5):
    return torch.full((n, 1, 4, 4), value, dtype=torch.float64), torch.zeros(n, dtype=torch.int64)


@pytest.mark.parametrize(
    "params",
    [
        {"search": "grid", "tries": 61},
        {"search": "random", "tries": 100},
        {"search": "gradient", "tries": 20},
    ],
)
def test_the_worst_rotation_is_found(params):
    x, y = bar(3)
    result = robustaug.create("attack.worst_case", operator=ROTATE, **params)(angle(17.0, 1.5), x, y)
    assert result.success.all()
    assert result.verified.all()
    assert (result.params["angle_deg"] - 17).abs().max() < 3


def test_ascent_comes_closer_than_a_draw():
    """The best of the way is kept where nothing breaks: a model that never fails shows how near it came."""
    x, y = grey(6, 0.4)
    gradient = robustaug.create("attack.worst_case", operator="image.brightness", search="gradient", tries=30)
    found = gradient(brightness(0.47, -0.001), x, y)
    assert not found.success.any()
    assert (found.params["factor"] - 0.47 / 0.4).abs().max() < 0.02


def test_an_optimum_on_the_edge_of_the_range_is_reached():
    x, y = grey(4, 0.4)
    for search in ("grid", "gradient"):
        attack = robustaug.create("attack.worst_case", operator="image.brightness", search=search, tries=15)
        result = attack(brightness(0.52 + 1e-3, 1.1e-3), x, y)  # factor 1.3 makes 0.52
        assert result.verified.all()
        assert torch.allclose(result.params["factor"], torch.tensor(1.3))
        assert not attack(brightness(0.53, 1.1e-3), x, y).success.any()


def test_the_grid_is_the_product_of_even_values():
    model = brightness(9.0, 0.1)
    x, y = grey(1)
    operator = {"image.color_jitter": {"brightness": [0.5, 1.5], "contrast": 1, "saturation": 1, "hue": 0}}
    robustaug.create("attack.worst_case", operator=operator, search="grid", counts={"brightness": 5})(model, x, y)
    means = torch.cat(model.seen[1:]).flatten(1).mean(1)
    assert torch.allclose(means, torch.linspace(0.25, 0.75, 5, dtype=torch.float64), atol=1e-6)
    attack = robustaug.create("attack.worst_case", operator={"image.motion_blur": {}}, search="grid", tries=17)
    assert attack.grid == [4, 4]
    choices = {"image.stripes": {"width": [0.1, 0.2], "place": 0.5}}
    assert robustaug.create("attack.worst_case", operator=choices, search="grid", tries=11).grid == [5, 2]


def test_the_spatial_preset_is_the_published_grid():
    attack = robustaug.create("attack.spatial")
    assert attack.steps == 31 * 5 * 5
    x, y = bar(2)
    result = attack(angle(-22.0, 1.0), x, y)
    assert result.verified.all()
    assert set(result.params) == {"angle_deg", "x", "y", "factor", "shear_deg"}
    assert (result.params["factor"] == 1).all()
    ten = robustaug.create("attack.spatial", search="random", tries=10, counts=None)
    assert ten.steps == 10


def test_training_gets_the_worst_of_the_draws():
    x, y = grey(5, 0.4)
    model = brightness(0.52, 0.5)
    few, many = (
        perturb(robustaug.create("attack.worst_case", operator="image.brightness", tries=t), model, x, y, Keys.of(0, 5))
        for t in (1, 20)
    )
    assert ((many.mean((1, 2, 3)) - 0.52).abs() <= (few.mean((1, 2, 3)) - 0.52).abs()).all()


@pytest.mark.parametrize(
    "operator",
    [
        "policy.augmix",
        ["image.rotate", {"image.brightness": {"p": 0.5}}],
        {"compose.one_of": {"of": ["image.brightness", "image.contrast"]}},
    ],
)
def test_whole_draws_are_searched_by_their_keys(operator):
    x, y = bar(6)
    x = x.float() * 0.6
    model = brightness(0.0, 0.02)  # nothing breaks it: the darkest counts
    one, many = (robustaug.create("attack.worst_case", operator=operator, tries=t) for t in (1, 8))
    keys = Keys.of(0, 6)
    worst = perturb(many, model, x, y, keys)
    assert (worst.mean((1, 2, 3)) <= perturb(one, model, x, y, keys).mean((1, 2, 3))).all()
    seen = torch.stack([point for point in model.seen if len(point) == 6][:8])
    assert torch.equal(worst.mean((1, 2, 3)), seen.mean((2, 3, 4)).amin(0))

    broken = many(Edges(x, 1e-4).eval(), x, y)
    assert broken.verified.all()
    assert [*broken.params] == ["key"]
    ball = many.threat.around(x, torch.full((6,), math.inf, dtype=torch.float64))
    wrong = {"key": broken.params["key"].clone()}
    wrong["key"][0] += 1
    wrong["key"][1] = -1
    assert many.replays(ball, broken.x_adv, broken.params).all()
    assert many.replays(ball, broken.x_adv, wrong).tolist() == [False, False, *[True] * 4]
    assert eval(repr(many), {"robustaug": robustaug}) == many


def test_half_precision_around_it_does_not_reach_the_operator():
    x, y = bar(2)
    attack = robustaug.create("attack.worst_case", operator="image.gaussian_blur", search="grid", tries=5)
    whole = perturb(attack, brightness(9.0, 0.1), x.float(), y, Keys.of(0, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(perturb(attack, brightness(9.0, 0.1), x.float(), y, Keys.of(0, 2)), whole)


class Edges(nn.Module):
    """Says 1 where an image, series or row is a little other than the one it knows."""

    def __init__(self, clean, reach):
        super().__init__()
        self.clean, self.reach = clean.flatten(1).mean(0), reach

    def forward(self, x):
        far = (x.flatten(1) - self.clean).abs().mean(1) - self.reach
        return torch.stack([-far, far], 1)


def searchable(kind):
    for name in robustaug.list(kind="operator", modality=kind):
        spaces = robustaug.create(name).spaces
        if any(space.distribution == "key" or space.count > 1 for space in spaces.values()):
            yield name


def refusal(name):
    try:
        return robustaug.create("attack.worst_case", operator=name) and None
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name", [*searchable("image")])
def test_every_operator_on_images_can_be_searched(name):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 16, 16, generator=draw)
    x[1] = x[0]
    y = torch.zeros(2, dtype=torch.int64)
    model = Edges(x, 1e-4).eval()
    attack = robustaug.create("attack.worst_case", operator=name, tries=4)
    if "resizes" in robustaug.registry.lookup(name).tags:
        with pytest.raises(ValueError, match="an attack keeps the shape"):
            attack(model, x, y)
        return
    result = attack(model, x, y)
    assert result.success.all()
    assert torch.equal(result.verified, result.success)
    operator = robustaug.create(name)
    assert torch.allclose(operator.apply(x, result.params).clamp(0, 1), result.x_adv, atol=1e-5)


@pytest.mark.parametrize("name", [*searchable("signal")])
def test_every_operator_on_signals_can_be_searched(name):
    x = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0)).double()
    x[1] = x[0]
    box = (-math.inf, math.inf)
    attack = robustaug.create("attack.worst_case", operator=name, tries=4, box=box)
    result = attack(Edges(x, 1e-4).eval(), x, torch.zeros(2, dtype=torch.int64))
    assert result.success.all()
    assert result.verified.all()


@pytest.mark.parametrize("name", [*searchable("tabular")])
def test_operators_on_tables_are_searched_or_say_why_not(name):
    tags = robustaug.registry.lookup(name).tags
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)).double() + 1.2345
    x[1] = x[0]
    if "batchwise" in tags:
        assert "depend on its batch" in refusal(name)
        return
    operator = robustaug.create(name)
    if "reference" in tags:
        assert "pass one that is fitted" in refusal(name)
        operator = operator.fit(torch.randn(50, 6, generator=torch.Generator().manual_seed(1)).double())
    attack = robustaug.create("attack.worst_case", operator=operator, tries=20, box=(-math.inf, math.inf))
    result = attack(Edges(x, 1e-4).eval(), x, torch.zeros(2, dtype=torch.int64))
    # missing values are no numbers to judge; columns of categories are not in a tensor
    numbers = not any(word in name for word in ("missing", "category"))
    assert result.success.all() == numbers
    assert torch.equal(result.verified, result.success)
    assert list(attack.spec()["attack.worst_case"]["operator"]) == [name]


def test_tampered_witnesses_are_not_verified():
    x, y = bar(6)
    attack = robustaug.create("attack.worst_case", operator=ROTATE, tries=100)
    model = angle(17.0, 1.5)
    result = attack(model, x, y)
    ball = attack.threat.around(x, torch.full((6,), math.inf, dtype=torch.float64))
    params = {key: value.clone() for key, value in result.params.items()}
    point = result.x_adv.clone()
    assert attack.replays(ball, point, params).all()
    point[0, 0, 12, 12] -= 0.01
    params["angle_deg"][1] += 0.5
    params["angle_deg"][2] = math.nan
    beyond = torch.full((6,), 31.0)
    assert attack.replays(ball, point, params).tolist() == [False, False, False, True, True, True]
    made = robustaug.create("image.rotate", angle_deg=[-90, 90]).apply(x, {"angle_deg": beyond})
    assert not attack.replays(ball, made, {"angle_deg": beyond}).any()
    with pytest.raises(ValueError, match="has the parameters"):
        attack.replays(ball, point, {})


def test_the_session_has_witnesses_made_again(monkeypatch):
    """What an attack claims beside its points is not believed."""
    x, y = bar(3)
    attack = robustaug.create("attack.worst_case", operator=ROTATE, tries=100)
    from robustaug.attacks.ask import Ask

    honest = Ask.made_from
    monkeypatch.setattr(Ask, "made_from", lambda self, params: honest(self, {k: v + 1 for k, v in params.items()}))
    result = attack(angle(17.0, 1.5), x, y)
    assert result.success.all()
    assert not result.verified.any()


def test_a_limit_on_the_distance_is_kept_too():
    x, y = grey(3, 0.4)
    attack = robustaug.create("attack.worst_case", operator="image.brightness", tries=40)
    model = brightness(0.5, 0.09)  # broken from 0.41 on
    near = attack(model, x, y, eps=0.05)
    assert near.success.all()
    assert (near.norm <= 0.05 * (1 + 1e-6)).all()
    assert not attack(model, x, y, eps=0.005).success.any()


def test_masked_values_stay_and_are_made_again_so():
    x, y = grey(2, 0.4)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2] = True
    result = robustaug.create("attack.worst_case", operator="image.brightness", tries=30)(
        brightness(0.44, 0.03), x, y, mask=mask
    )
    assert result.verified.all()
    assert torch.equal(result.x_adv[:, :, 2:], x[:, :, 2:])


@pytest.mark.parametrize("search", ["random", "gradient"])
def test_results_do_not_depend_on_the_batch(search):
    x, y = bar(5)
    x = x * torch.linspace(0.5, 1, 5).double()[:, None, None, None]
    attack = robustaug.create("attack.worst_case", operator="image.affine", search=search, tries=6)
    keys, model = Keys.of(3, 5), angle(9.0, 0.5)
    whole = attack(model, x, y, keys, execution=Execution(batch_size=2))
    for i in range(5):
        one = attack(model, x[i : i + 1], y[:1], keys[i : i + 1])
        assert torch.equal(one.success, whole.success[i : i + 1])
        assert torch.allclose(one.x_adv, whole.x_adv[i : i + 1], atol=1e-9)
        assert torch.allclose(one.params["angle_deg"], whole.params["angle_deg"][i : i + 1])


def test_parameters_survive_a_checkpoint(tmp_path):
    x, y = bar(6)
    attack = robustaug.create("attack.worst_case", operator="image.affine", tries=30)
    expected = attack(angle(9.0, 0.3), x, y)

    class Killed(Exception):  # noqa: N818
        pass

    def stop(progress):
        if progress.fraction > 0.6:
            raise Killed

    path = tmp_path / "attack.safetensors"
    with pytest.raises(Killed):
        attack(angle(9.0, 0.3), x, y, execution=Execution(checkpoint=path, checkpoint_every_s=0, progress=stop))
    resumed = attack(angle(9.0, 0.3), x, y, execution=Execution(checkpoint=path, checkpoint_every_s=0))
    assert torch.equal(resumed.success, expected.success)
    assert torch.equal(resumed.verified, expected.verified)
    assert torch.equal(resumed.x_adv, expected.x_adv)
    for key, value in expected.params.items():
        assert torch.equal(resumed.params[key], value)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"operator": "image.jpeg", "search": "gradient"}, "image.jpeg is not differentiable; use search='random'"),
        ({"operator": "image.rotate90", "search": "gradient"}, "has no range of real numbers"),
        ({"operator": "image.horizontal_flip"}, "has no parameter that leaves a choice"),
        ({"operator": {"image.rotate": {"p": 0.5}}}, "set p to 1, not 0.5"),
        ({"operator": {"image.rotate": {"angle_deg": 3}}}, "has no parameter that leaves a choice"),
        ({"operator": "text.keyboard"}, "works on text"),
        ({"operator": "image.channel_shuffle", "search": "grid"}, "only random keys"),
        ({"operator": "image.affine", "search": "grid", "tries": 31}, "too few for a grid .* it needs 32"),
        ({"search": "grid", "counts": {"angle": 3}}, "counts must give a whole number >= 1 for each of angle_deg"),
        ({"search": "grid", "counts": {"angle_deg": 0}}, "counts must give"),
        ({"search": "grid", "restarts": 2}, "would repeat the same grid"),
        ({"counts": {"angle_deg": 3}}, "counts are for search='grid'"),
        ({"operator": "policy.augmix", "search": "grid"}, "policy.augmix draws .* search its parts instead"),
        ({"operator": ["tabular.label_shift", "tabular.noise"]}, "label_shift moves values between rows"),
        ({"operator": ["tabular.outliers"]}, "tabular.outliers measures what is usual in the batch; pass one that is"),
        (
            {"operator": {"compose.one_of": {"of": ["text.keyboard"]}}},
            "compose.one_of works on text; attacks move",
        ),
        ({"operator": ["image.rotate"], "search": "grid"}, "operator is a list, .* use search='random', or give one"),
        ({"operator": []}, r"operator must be an operator or a list of at least one, got \[\]"),
        ({"search": "best"}, "search must be one of 'grid', 'random', 'gradient'"),
        ({"step_size": 2}, r"step_size must be in \[0, 1\]"),
        ({"operator": "image.rotat"}, "did you mean 'image.rotate'"),
    ],
)
def test_what_cannot_be_searched_is_refused(params, words):
    with pytest.raises(ValueError, match=words):
        robustaug.create("attack.worst_case", **params)


def test_other_samples_than_the_operators_are_refused():
    attack = robustaug.create("attack.worst_case")
    with pytest.raises(ValueError, match=r"image.rotate works on images, \(B, ...\) of rank 4, got \(2, 6\)"):
        attack(Edges(torch.zeros(2, 6), 0.1).eval(), torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64))
    wide = robustaug.create("attack.worst_case", box=(-1, 1))
    x, y = grey(2)
    with pytest.raises(ValueError, match=r"must lie in the box \(0, 1\)"):
        wide(brightness(9.0, 0.1), x, y)


@pytest.mark.parametrize("params", [{}, {"operator": ROTATE, "search": "grid", "counts": {"angle_deg": 5}, "eps": 0.5}])
def test_it_can_be_made_from_what_it_says_of_itself(params):
    attack = robustaug.create("attack.worst_case", **params)
    assert eval(repr(attack), {"robustaug": robustaug}) == attack
    assert robustaug.create("attack.worst_case", eps=math.inf) == robustaug.create("attack.worst_case")


@pytest.mark.parametrize("inside", [list, tuple, lambda of: {"compose.one_of": {"of": of}}])
def test_operators_that_were_made_already_are_written_as_their_specs(inside):
    made = [robustaug.create("image.rotate", angle_deg=[-9, 9]), robustaug.create("image.contrast")]
    attack = robustaug.create("attack.worst_case", operator=inside(made))
    again = robustaug.registry.make(json.loads(json.dumps(attack.spec())))
    assert again.searched.operator == attack.searched.operator
    assert eval(repr(attack), {"robustaug": robustaug}) == again


def test_parameters_without_a_slope_are_refused():
    """How many pixels are hit is a count: the image's slope passes, its own is zero."""
    x, y = grey(2)
    attack = robustaug.create("attack.worst_case", operator="image.salt_and_pepper", search="gradient", tries=3)
    with pytest.raises(ValueError, match=r"salt_and_pepper has no slope in its parameters; use search='random'"):
        attack(brightness(9.0, 0.1), x, y)

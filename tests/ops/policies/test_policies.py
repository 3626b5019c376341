"""Policies against torchvision's, operation by operation, and the searches over them."""

import pytest
import torch
from sklearn.datasets import load_sample_images
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, v2

import robustaug
from robustaug.ops.policies.augmix import augmix_triple, beta, dirichlet
from robustaug.ops.policies.operations import OPERATIONS, SIGNED, Chooser
from robustaug.ops.policies.search import search
from robustaug.ops.policies.tables import TABLES, read_table
from robustaug.ops.policies.worst_of import worst_of_k
from robustaug.rng import Keys
from robustaug.train.losses.jensen_shannon import jensen_shannon

THEIRS = {
    name: {"auto_contrast": "AutoContrast"}.get(name, "".join(word.capitalize() for word in name.split("_")))
    for name in OPERATIONS
}


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    """(3, 48, 64) float32: a photograph of a flower."""
    flower = torch.from_numpy(load_sample_images().images[1].copy()).permute(2, 0, 1)[:, :420, :560].float()
    return torch.nn.functional.adaptive_avg_pool2d(flower, (48, 64)).round() / 255


@pytest.mark.parametrize("level", [0.0, 0.3, 2 / 3, 1.0])
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("policy", ["policy.rand_augment", "policy.trivial_augment_wide"])
def test_each_operation_is_torchvisions(policy, name, level, image):
    ours: Chooser = robustaug.create(policy)
    theirs = v2.RandAugment() if policy == "policy.rand_augment" else v2.TrivialAugmentWide()
    if name == "posterize":  # floats are cut at other levels there
        image = (image * 255).round().to(torch.uint8)
    for sign in (-1.0, 1.0) if name in SIGNED else (1.0,):
        space = theirs._AUGMENTATION_SPACE.get(THEIRS[name])
        magnitude = 0.0
        if space is not None and (table := space[0](31, 48, 64)) is not None:
            magnitude = float(table[round(level * 30)]) * sign
        want = theirs._apply_image_or_video_transform(image, THEIRS[name], magnitude, InterpolationMode.BILINEAR, {})
        drawn = {"op": torch.tensor([[OPERATIONS.index(name)]]), "level": torch.tensor([[round(level * 30) / 30]])}
        got = ours.apply(image, drawn | {"sign": torch.tensor([[sign]])})
        if name == "solarize":
            continue_at = (image - (1 - level)).abs() > 1e-6  # theirs also inverts what equals the threshold
            got, want = got[continue_at], want[continue_at]
        apart = (got.float() - want.float()).abs()
        # a level that lies on a step may fall to either side
        assert apart.max() <= 1e-4 or (name == "equalize" and (apart > 1e-4).float().mean() < 0.01)


@pytest.mark.parametrize("policy", AutoAugmentPolicy, ids=lambda p: p.value)
def test_autoaugment_has_the_published_tables(policy):
    names = {theirs: ours for ours, theirs in THEIRS.items()}
    want = [[(names[op], p, (level or 0) / 9) for op, p, level in line] for line in v2.AutoAugment(policy)._policies]
    assert read_table(TABLES[policy.value]) == want


def test_each_sample_draws_its_own():
    for name, turns in (("policy.rand_augment", 2), ("policy.trivial_augment_wide", 1), ("policy.auto_augment", 2)):
        params = robustaug.create(name).sample(Keys.of(0, 4000))
        assert params["op"].shape == (4000, turns)
        counts = torch.bincount(params["op"][:, 0] + 1, minlength=len(OPERATIONS) + 1)[1:]
        if name != "policy.auto_augment":
            assert counts[OPERATIONS.index("invert")] == 0
            expected = 4000 / 14
            assert ((counts - expected).abs() < 5 * expected**0.5)[counts > 0].all()
            assert (counts > 0).sum() == 14
        assert 0.4 < (params["sign"][:, 0][params["op"][:, 0] == 0] < 0).float().mean() < 0.6


def test_a_chance_of_zero_never_and_of_one_always_acts():
    invert = robustaug.create("policy.sub_policies", table=[[["invert", 1, 0]]])
    never = robustaug.create("policy.sub_policies", table=[[["invert", 0, 0]]])
    x = torch.rand(8, 3, 5, 5)
    assert torch.allclose(invert(x), 1 - x)
    assert torch.equal(never(x), x)


def test_policies_live_in_pipelines_and_yaml():
    text = "- policy.auto_augment: {table: svhn}\n- policy.rand_augment: {n: 1, magnitude: 12}\n- policy.augmix\n"
    pipeline = robustaug.Pipeline.from_yaml(text)
    assert robustaug.Pipeline.from_yaml(pipeline.to_yaml()) == pipeline
    assert pipeline(torch.rand(4, 3, 16, 16)).shape == (4, 3, 16, 16)


def test_beta_and_dirichlet_have_their_moments():
    keys = Keys.of(0, 20000)
    for a, b in ((0.2, 0.2), (1, 1), (3, 1)):
        drawn = beta(keys, a, b).double()
        assert abs(drawn.mean() - a / (a + b)) < 0.01
        assert abs(drawn.var() - a * b / ((a + b) ** 2 * (a + b + 1))) < 0.01
    for alpha in (0.3, 1.0, 5.0):
        drawn = dirichlet(keys, alpha, 3).double()
        assert (drawn.sum(1) - 1).abs().max() < 1e-5
        assert (drawn.mean(0) - 1 / 3).abs().max() < 0.01
        assert (drawn.var(0) - (2 / 9) / (3 * alpha + 1)).abs().max() < 0.01


def test_augmix_is_the_formula_written_out(image):
    operator = robustaug.create("policy.augmix", width=2, depth=1)
    params = operator.sample(Keys.of(3, 5))
    batch = image.expand(5, -1, -1, -1)
    chains = [
        operator.perform(batch, params["op"][:, k], params["level"][:, k], params["sign"][:, k]) for k in range(2)
    ]
    w, m = params["weights"][:, :, None, None, None], params["share"][:, None, None, None]
    want = (1 - m) * batch + m * (w[:, 0] * chains[0] + w[:, 1] * chains[1])
    assert (operator.apply(batch, params) - want).abs().max() < 1e-5


def test_augmix_grows_with_its_strength(image):
    batch = image.expand(32, -1, -1, -1)
    away = [float((robustaug.create("policy.augmix", strength=s)(batch) - batch).abs().mean()) for s in (1, 3, 6, 10)]
    assert away == sorted(away)


def test_a_triple_holds_two_views_and_their_divergence_is_zero_only_where_they_agree(image):
    operator, keys = robustaug.create("policy.augmix"), Keys.of(0, 4)
    clean, first, second = augmix_triple(operator, image.expand(4, -1, -1, -1), keys)
    assert torch.equal(clean[0], image)
    assert not torch.equal(first, second)
    logits = torch.tensor([[2.0, 0, -1]])
    assert jensen_shannon([logits] * 3).abs().max() < 1e-6
    certain = [100 * row[None] for row in torch.eye(3)]
    assert jensen_shannon(certain) == pytest.approx(torch.log(torch.tensor(3.0)).item(), rel=1e-4)


def test_the_worst_of_k_is_the_greatest_loss_of_each_sample():
    operator, x, keys = (
        robustaug.create("image.brightness", factor=[0.1, 1.0]),
        torch.full((16, 1, 4, 4), 0.8),
        Keys.of(0, 16),
    )

    def darkness(images):
        return 1 - images.mean(dim=(1, 2, 3))

    worst = worst_of_k(operator, x, darkness, 8, keys)
    every = torch.stack([darkness(operator.apply(x, operator.sample(keys.fold(i)))) for i in range(8)])
    assert torch.equal(worst.loss, every.max(0).values)
    assert torch.allclose(darkness(worst.image), worst.loss)
    assert worst.draw.unique().numel() > 2
    with pytest.raises(ValueError, match="one number a sample"):
        worst_of_k(operator, x, lambda images: images.mean(), 2, keys)


def test_a_killed_search_ends_as_an_uninterrupted_one(tmp_path):
    def score(policy) -> float:
        return -sum(step[2] for line in policy.table for step in line)

    whole = search(score, tmp_path / "whole.jsonl", trials=12, seed=3)
    calls = []

    def failing(policy) -> float:
        calls.append(policy)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return score(policy)

    with pytest.raises(KeyboardInterrupt):
        search(failing, tmp_path / "killed.jsonl", trials=12, seed=3)
    calls.clear()
    resumed = search(lambda p: calls.append(p) or score(p), tmp_path / "killed.jsonl", trials=12, seed=3)
    assert len(calls) == 7
    assert resumed.trials == whole.trials
    assert resumed.policy == whole.policy
    assert resumed.score == whole.score == max(s for s, _ in whole.trials)
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    with pytest.raises(ValueError, match="holds another search"):
        search(score, tmp_path / "whole.jsonl", trials=12, seed=4)
    (tmp_path / "other.jsonl").write_text("no json")
    with pytest.raises(ValueError, match="not a search's results"):
        search(score, tmp_path / "other.jsonl")


def test_mistakes_are_named():
    for make, message in [
        (
            lambda: robustaug.create("policy.auto_augment", table="cifar"),
            "unknown table 'cifar'; did you mean 'cifar10'",
        ),
        (lambda: robustaug.create("policy.rand_augment", n=-1), "n must be a whole number >= 0, got -1"),
        (lambda: robustaug.create("policy.rand_augment", magnitude=31), "magnitude must be <= 30, got 31"),
        (lambda: robustaug.create("policy.augmix", depth=0), "depth must be 1 to 10, or -1"),
        (lambda: robustaug.create("policy.augmix", strength=11), "strength must be <= 10, got 11"),
        (lambda: robustaug.create("policy.sub_policies", table=[[["rotat", 1, 1]]]), "did you mean 'rotate'"),
        (lambda: robustaug.create("policy.sub_policies", table=[]), "at least one sub-policy"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()

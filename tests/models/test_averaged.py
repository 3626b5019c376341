import pytest
import torch

import robustaug
from robustaug.models import checkpoints
from robustaug.models.averaged import answers_of
from robustaug.models.classifier import require_eval

CNN = {"model.small_cnn": {"channels": 1, "classes": 10, "width": 2, "size": 8}}
MLP = {"model.mlp": {"features": 6, "classes": 3, "widths": [32], "dropout": 0.5}}
X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
ROWS = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
MADE = {
    "model.ensemble": ({"of": [CNN, CNN, CNN]}, X, 3),
    "model.mc_dropout": ({"of": MLP, "draws": 7}, ROWS, 7),
    "model.augmented": ({"of": CNN, "by": [{"image.horizontal_flip": {"p": 0.5}}, "image.gaussian_noise"]}, X, 9),
}


@pytest.fixture(params=MADE)
def made(request):
    params, x, answers = MADE[request.param]
    return request.param, robustaug.create(request.param, **params).eval(), x, answers


def test_the_answer_is_the_mean_probability_of_different_ones(made):
    _, model, x, n = made
    each = answers_of(model, x)
    assert len(each) == n
    assert not torch.allclose(each[0], each[-1])
    assert torch.allclose(model(x).exp(), each.softmax(dim=2).mean(dim=0), atol=1e-6)
    assert model.num_classes == each.shape[2]
    require_eval(model)


def test_an_input_has_one_answer_at_any_time_in_any_batch(made):
    name, model, x, _ = made
    torch.manual_seed(1)
    first = model(x)
    torch.manual_seed(2)
    assert torch.equal(model(x), first)
    assert torch.allclose(torch.cat([model(row[None]) for row in x]), first, atol=1e-6)
    again = robustaug.create(name, **MADE[name][0]).eval()
    assert torch.equal(again(x), first)


def test_attacks_see_the_function_that_is_judged(made):
    _, model, x, _ = made
    x = x.clone().requires_grad_()
    [gradient] = torch.autograd.grad(model(x)[:, 0].sum(), x)
    assert (gradient.flatten(1).abs().sum(dim=1) > 0).all()


def test_checkpoints_hold_the_whole(made, tmp_path):
    name, model, x, _ = made
    checkpoints.save(tmp_path / "w.safetensors", model, {"model": {name: MADE[name][0]}})
    other = robustaug.create(name, **MADE[name][0] | {"seed": 5}).eval()
    checkpoints.load_into(tmp_path / "w.safetensors", other)
    whole = robustaug.create("model.checkpoint", path=str(tmp_path / "w.safetensors"))
    assert torch.equal(whole(x), model(x))
    if name == "model.ensemble":
        assert torch.equal(other(x), model(x))


def test_in_training_dropout_is_torchs_own():
    model = robustaug.create("model.mc_dropout", **MADE["model.mc_dropout"][0]).train()
    torch.manual_seed(0)
    assert not torch.equal(model(ROWS), model(ROWS))
    assert len(answers_of(model, ROWS)) == 1
    assert len(answers_of(model.eval(), ROWS)) == 7


def test_a_draw_leaves_out_the_share_that_the_layer_says():
    wide = {"model.mlp": {"features": 6, "classes": 3, "widths": [4000], "dropout": 0.3}}
    model = robustaug.create("model.mc_dropout", of=wide, draws=2).eval()
    [layer] = [m for m in model.modules() if type(m).__name__ == "_DrawnDropout"]
    ones = torch.ones(2, 4000)
    found = layer(ones)
    assert (found == 0).float().mean() == pytest.approx(0.3, abs=0.03)
    assert found.max() == pytest.approx(1 / 0.7)
    assert torch.equal(found[0], found[1])
    layer.draw = 1
    assert not torch.equal(layer(ones), found)


def test_whole_channels_are_left_out_where_the_layer_does_so():
    from robustaug.models.mc_dropout import _DrawnDropout

    found = _DrawnDropout(0.5, True, 0, "d").eval()(torch.ones(2, 64, 3, 3))
    assert ((found == 0).flatten(2).all(dim=2) | (found == 2).flatten(2).all(dim=2)).all()
    assert 10 < (found[0, :, 0, 0] == 0).sum() < 54


def test_snapshots_are_read_from_their_files(tmp_path):
    specs = []
    for seed in range(2):
        path = tmp_path / f"{seed}.safetensors"
        checkpoints.save(path, robustaug.create("model.small_cnn", **CNN["model.small_cnn"], seed=seed), {"model": CNN})
        specs.append({"model.checkpoint": {"path": str(path)}})
    model = robustaug.create("model.ensemble", of=specs).eval()
    alone = [robustaug.create("model.small_cnn", **CNN["model.small_cnn"], seed=seed).eval() for seed in range(2)]
    assert torch.allclose(answers_of(model, X), torch.stack([one(X) for one in alone]))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("model.ensemble", {"of": [CNN]}, "list of two or more models"),
        (
            "model.ensemble",
            {"of": [CNN, {"model.small_cnn": {"classes": 3}}]},
            "same number of classes, got small_cnn 10",
        ),
        ("model.ensemble", {"of": ["model.text_cnn", "model.text_cnn"]}, "takes models of tensors"),
        ("model.mc_dropout", {"of": CNN}, r"has no nn\.Dropout layer"),
        ("model.mc_dropout", {"of": MLP, "draws": 0}, "draws must be a whole number >= 1, got 0"),
        ("model.augmented", {"of": CNN, "by": []}, "at least one operator"),
        ("model.augmented", {"of": CNN, "by": ["image.horizontal_flp"]}, r"by\[0\]: .*did you mean"),
        ("model.augmented", {"of": CNN, "by": ["text.keyboard_typos"]}, "images or series, got text|unknown name"),
    ],
)
def test_what_cannot_be_averaged_is_refused(name, params, message):
    with pytest.raises(ValueError, match=message):
        robustaug.create(name, **params)


def test_one_network_gives_one_answer():
    with pytest.raises(ValueError, match="small_cnn gives one answer; several are needed"):
        answers_of(robustaug.create("model.small_cnn"), X)

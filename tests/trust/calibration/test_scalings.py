import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression

from robustaug.models.scaling import KINDS, load_scaling, save_scaling
from robustaug.trust.calibration import ece, fit_scaling, fit_temperature, nll

EACH = sorted(KINDS)


def overconfident(n, classes, seed=0, by=2.5):
    """Logits that are `by` times what the labels were drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, classes))
    labels = (rng.random((n, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return logits * by, labels


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("classes", [2, 5])
def test_every_scaling_makes_new_samples_better_calibrated(kind, classes, tmp_path):
    scaling = fit_scaling(kind, *overconfident(3000, classes))
    logits, labels = overconfident(5000, classes, seed=1)
    found = scaling(torch.from_numpy(logits))
    assert torch.isfinite(found).all()
    assert ece(found, labels) < ece(logits, labels) / 3
    assert nll(found, labels) < nll(logits, labels)
    assert scaling.probabilities(torch.from_numpy(logits)).sum(dim=1).numpy() == pytest.approx(1)
    save_scaling(tmp_path / "calibration.safetensors", scaling, {"on": "held-out"})
    again = load_scaling(tmp_path / "calibration.safetensors")
    assert torch.equal(again(torch.from_numpy(logits)), found)
    assert scaling(torch.from_numpy(logits).float()).dtype == torch.float32


@pytest.mark.parametrize("kind", EACH)
def test_a_batch_scales_like_its_rows_and_gradients_flow(kind):
    scaling = fit_scaling(kind, *overconfident(500, 3))
    x = torch.from_numpy(overconfident(20, 3, seed=2)[0]).requires_grad_()
    found = scaling(x)
    assert torch.allclose(found, torch.cat([scaling(row[None]) for row in x]))
    [gradient] = torch.autograd.grad(found[:, 0].sum(), x)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_one_temperature_is_that_of_the_runs_records():
    logits, labels = overconfident(800, 4)
    assert float(fit_scaling("temperature", logits, labels).temperature) == fit_temperature(logits, labels)


def test_platt_agrees_with_scikit_learn():
    logits, labels = overconfident(400, 2)
    theirs = _SigmoidCalibration().fit(logits[:, 1] - logits[:, 0], labels)
    wanted = theirs.predict(logits[:, 1] - logits[:, 0])
    found = fit_scaling("platt", logits, labels).probabilities(torch.from_numpy(logits))[:, 1]
    assert found.numpy() == pytest.approx(wanted, abs=1e-5)  # their optimiser stops earlier


def test_platt_of_several_classes_is_one_against_the_rest():
    logits, labels = overconfident(600, 3)
    p = softmax(logits, axis=1)
    alone = [_SigmoidCalibration().fit(odds, labels == k).predict(odds) for k, odds in enumerate(np.log(p / (1 - p)).T)]
    wanted = np.array(alone).T / np.array(alone).sum(axis=0)[:, None]
    found = fit_scaling("platt", logits, labels).probabilities(torch.from_numpy(logits))
    assert found.numpy() == pytest.approx(wanted, abs=1e-4)


def test_isotonic_agrees_with_scikit_learn():
    logits, labels = overconfident(500, 3)
    new = overconfident(300, 3, seed=1)[0]
    p, p_new = softmax(logits, axis=1), softmax(new, axis=1)
    fitted = [IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p[:, k], labels == k) for k in range(3)]
    wanted = np.array([one.predict(p_new[:, k]) for k, one in enumerate(fitted)]).T
    wanted = wanted / wanted.sum(axis=1, keepdims=True)
    found = fit_scaling("isotonic", logits, labels).probabilities(torch.from_numpy(new))
    assert found.numpy() == pytest.approx(wanted, abs=1e-9)


def test_vector_scaling_is_the_best_there_is():
    logits, labels = overconfident(400, 3)

    def loss(v):
        return -log_softmax(logits * v[:3] + np.array([0, *v[3:]]), axis=1)[np.arange(400), labels].mean()

    best = minimize(
        loss, [1, 1, 1, 0, 0], method="Nelder-Mead", options={"maxiter": 5000, "xatol": 1e-9, "fatol": 1e-12}
    )
    found = fit_scaling("vector", logits, labels)(torch.from_numpy(logits))
    assert nll(found, labels) == pytest.approx(best.fun, abs=1e-7)


def test_separable_logits_have_no_best_vector_and_say_so():
    labels = np.arange(30) % 3
    with pytest.warns(UserWarning, match="vector scaling has no best value"):
        fit_scaling("vector", np.eye(3)[labels] * 5, labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vectr", [[0.0, 1.0]], [0]), "kind must be one of .*, got 'vectr'; did you mean 'vector'"),
        (("platt", np.zeros((4, 3)), [0, 1, 0, 1]), "1 of 3 have no sample, such as class 2"),
        (("isotonic", [[np.nan, 1.0]], [0]), "must be finite to fit isotonic scaling: 1 values in 1 of 1 rows"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_scaling(*arguments)

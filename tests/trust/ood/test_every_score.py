"""What holds for every registered score."""

import math

import numpy as np
import pytest
import torch

import robustaug
from robustaug.trust import ood
from robustaug.trust.ood import Detector, Evidence

NAMES = robustaug.list(kind="score")
LEARNERS = [name for name in NAMES if robustaug.create(name).learns]


def test_the_scores():
    published = "msp energy max_logit gen odin knn mahalanobis relative_mahalanobis vim react ash she grad_norm"
    assert {f"ood.{name}" for name in (*published.split(), "disagreement")} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_known_data_scores_above_far_data(name, look, known, far, fitted):
    score = fitted(name)
    here, there = score.score(look(known(40, seed=1)[0])), score.score(look(far(40)))
    for found in (here, there):
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float64
        assert found.shape == (40,)
    assert here.min() > there.max()


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_scores_alike_in_any_company_and_the_inputs_stay(name, look, known, fitted):
    score = fitted(name)
    x = known(12, seed=1)[0]
    before = x.clone()
    whole = score.score(look(x))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert score.score(look(x[order])) == pytest.approx(whole[order.numpy()], rel=1e-6, abs=1e-6)
    one_by_one = np.concatenate([score.score(look(row[None])) for row in x])
    assert one_by_one == pytest.approx(whole, rel=1e-6, abs=1e-6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("size", [1, 7])
def test_batches_of_training_data_do_not_matter(name, size, look, known, fitted):
    x = known(20, seed=1)[0]
    assert fitted(name, size).score(look(x)) == pytest.approx(fitted(name).score(look(x)), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_score_finite(name, look, known, fitted):
    score = fitted(name)
    found = score.score(look(torch.cat([known(4)[0] * 1e3, torch.zeros(1, 16), torch.full((1, 16), -1e4)])))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", NAMES)
def test_nan_scores_nan_and_only_there(name, look, known, fitted):
    x = known(5, seed=1)[0]
    x[2, 3] = math.nan
    assert np.isnan(fitted(name).score(look(x))).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("name", NAMES)
def test_no_sample_has_no_score(name, look, known, fitted):
    assert fitted(name).score(look(known(4)[0][:0])).shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_one_class_alone_is_enough_to_learn_from(name, look, known):
    score = robustaug.create(name, **({"k": 1} if name == "ood.knn" else {}))
    x, y = known(40)
    ood.fit([score], [look(x[y == 2], y[y == 2])])
    assert np.isfinite(score.score(look(known(4, seed=1)[0]))).all()


@pytest.mark.parametrize("name", LEARNERS)
def test_one_training_sample_is_learned_from_or_refused_in_words(name, look, known):
    score = robustaug.create(name, **({"k": 1} if name == "ood.knn" else {}))
    x, y = known(1)
    try:
        ood.fit([score], [look(x, y)])
    except ValueError as error:
        assert "do not vary" in str(error) or "hold all training features" in str(error)
    else:
        assert np.isfinite(score.score(look(x))).all()


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda score, look, x, y: score.score(look(x)), "is not fitted"),
        (lambda score, look, x, y: ood.fit([score], []), "no training|k must be <= the 0"),
        (lambda score, look, x, y: ood.fit([score], [Evidence()]), r"needs the features \(N, D\)"),
        (lambda score, look, x, y: ood.fit([score], [look(x * math.nan, y)]), "8 of 8 training features hold NaN"),
    ],
)
def test_a_learner_says_what_it_misses(name, act, message, look, known):
    with pytest.raises(ValueError, match=message):
        act(robustaug.create(name), look, *known(8))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_score_needs_is_all_that_it_reads(name, look, known, fitted):
    score, whole = fitted(name), look(known(6, seed=1)[0])
    only = Evidence(**{field: getattr(whole, field) for field in score.needs})
    assert score.score(only) == pytest.approx(score.score(whole), rel=1e-12)
    for field in score.needs:
        lacks = Evidence(**{other: getattr(whole, other) for other in score.needs - {field}})
        with pytest.raises(ValueError, match=rf"{name} needs the .*Evidence\({field}="):
            score.score(lacks)


@pytest.mark.parametrize("name", LEARNERS)
def test_other_features_than_those_learned_from_are_refused(name, look, known, fitted):
    score, whole = fitted(name), look(known(6)[0])
    fields = {field: getattr(whole, field) for field in score.needs - {"head"}} | {"features": np.zeros((6, 5))}
    with pytest.raises(ValueError, match="was fitted on 16 features a sample, got 5"):
        score.score(Evidence(**fields, head=whole.head))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_any_precision_are_taken(name, kind, look, known, fitted):
    score = fitted(name)
    whole = look(known(6, seed=1)[0])
    cast = {field: np.asarray(getattr(whole, field)).astype(kind) for field in ("logits", "features", "members")}
    for values in cast.values():
        values.flags.writeable = False
    found = score.score(Evidence(**cast, head=whole.head, inputs=whole.inputs, model=whole.model))
    assert found == pytest.approx(score.score(whole), rel=0.02, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_score_is_the_same_score(name, model, known, far, fitted, tmp_path):
    detector = Detector.calibrated(model, fitted(name), known(60, seed=2)[0], 0.1)
    detector.save(tmp_path / "detector.safetensors")
    back = Detector.load(tmp_path / "detector.safetensors", model)
    assert repr(back) == repr(detector)
    inputs = torch.cat([known(9, seed=3)[0], far(9)])
    here, there = detector.flag(inputs), back.flag(inputs)
    assert np.array_equal(here.score, there.score)
    assert np.array_equal(here.flagged, there.flagged)
    assert here.flagged[9:].all()

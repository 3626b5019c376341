"""Each score against its published formula written out, and against pytorch-ood."""

import math

import numpy as np
import pytest
import torch
from pytorch_ood import detector as peers
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from sklearn.covariance import EmpiricalCovariance
from torch import nn
from torch.nn import functional as F

import robustaug
from robustaug.trust import ood
from robustaug.trust.ood import Evidence, Head

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3, size=(40, 7))
CLOSE = {"rel": 1e-6, "abs": 1e-6}
D, K = 12, 5
WEIGHT, BIAS = 0.2 * RNG.normal(size=(K, D)) + np.eye(K, D), 0.2 * RNG.normal(size=K)
HEAD = Head(torch.from_numpy(WEIGHT), torch.from_numpy(BIAS))


def features(n, seed):
    """Features >= 0 whose last two directions hang on the others, and one that is always 0."""
    draw = np.random.default_rng(seed)
    x = np.abs(draw.normal(size=(n, D)) + 2 * np.eye(D)[np.arange(n) % K])
    x[:, -2], x[:, -1] = x[:, 0] + x[:, 1], 0
    return x


def evidence(x, labels=None):
    return Evidence(x @ WEIGHT.T + BIAS, x, labels, HEAD)


TRAIN, QUERY = features(200, 1), features(30, 2)
LABELS = np.arange(200) % K


def score(name, params=None, query=QUERY, train=TRAIN, labels=LABELS):
    made = robustaug.create(name, **(params or {}))
    ood.fit([made], [evidence(train[:90], labels[:90]), evidence(train[90:], labels[90:])])
    return made.score(evidence(query))


def linear(dtype=torch.float32):
    layer = nn.Linear(D, K, dtype=dtype)
    layer.weight.data, layer.bias.data = torch.from_numpy(WEIGHT).to(dtype), torch.from_numpy(BIAS).to(dtype)
    return layer


def test_scores_of_logits():
    logits = Evidence(LOGITS)
    assert robustaug.create("ood.msp").score(logits) == pytest.approx(softmax(LOGITS, axis=1).max(axis=1))
    assert robustaug.create("ood.max_logit").score(logits) == pytest.approx(LOGITS.max(axis=1))
    assert robustaug.create("ood.energy").score(logits) == pytest.approx(logsumexp(LOGITS, axis=1))
    scaled = robustaug.create("ood.energy", temperature=2.5).score(logits)
    assert scaled == pytest.approx(2.5 * np.asarray(logsumexp(LOGITS / 2.5, axis=1)))


def test_energy_goes_to_the_greatest_logit_and_does_not_overflow():
    cold = robustaug.create("ood.energy", temperature=1e-3).score(Evidence(LOGITS))
    assert cold == pytest.approx(LOGITS.max(axis=1), abs=0.01)
    assert robustaug.create("ood.energy").score(Evidence([[5000.0, 0.0]])) == pytest.approx(5000)


@pytest.mark.parametrize("top", [1, 3, 100])
def test_generalized_entropy(top):
    p = -np.sort(-softmax(LOGITS, axis=1), axis=1)[:, :top]
    found = robustaug.create("ood.gen", gamma=0.3, top=top).score(Evidence(LOGITS))
    assert found == pytest.approx(-(p**0.3 * (1 - p) ** 0.3).sum(axis=1), **CLOSE)


def test_generalized_entropy_tells_confidences_apart_that_round_to_one():
    found = robustaug.create("ood.gen").score(Evidence([[50.0, 0], [100, 0], [2000, 0]]))
    # 1 - p is exp(-gap) to the last digit, of both classes
    assert found == pytest.approx([-2 * math.exp(-5), -2 * math.exp(-10), 0], rel=1e-9)


def test_mahalanobis_and_its_relative():
    means = np.stack([TRAIN[c == LABELS].mean(axis=0) for c in range(K)])
    within = EmpiricalCovariance(assume_centered=True).fit(TRAIN - means[LABELS])
    overall = EmpiricalCovariance().fit(TRAIN)
    nearest = np.min([within.mahalanobis(QUERY - mean) for mean in means], axis=0)
    assert score("ood.mahalanobis") == pytest.approx(-nearest, **CLOSE)
    assert score("ood.relative_mahalanobis") == pytest.approx(overall.mahalanobis(QUERY) - nearest, **CLOSE)


def test_distances_survive_features_far_from_zero():
    shifted = score("ood.mahalanobis", query=QUERY + 1e5, train=TRAIN + 1e5)
    assert shifted == pytest.approx(score("ood.mahalanobis"), rel=1e-6)


def test_classes_without_samples_do_not_attract():
    assert score("ood.mahalanobis", labels=LABELS * 300) == pytest.approx(score("ood.mahalanobis"))


@pytest.mark.parametrize("dim", [None, 0, 7])
def test_virtual_logit(dim):
    origin = -np.linalg.pinv(WEIGHT) @ BIAS
    values, vectors = np.linalg.eigh((TRAIN - origin).T @ (TRAIN - origin))
    residual = vectors[:, np.argsort(-values)[(D // 2 if dim is None else dim) :]]
    alpha = (TRAIN @ WEIGHT.T + BIAS).max(axis=1).mean() / np.linalg.norm((TRAIN - origin) @ residual, axis=1).mean()
    virtual = alpha * np.linalg.norm((QUERY - origin) @ residual, axis=1)
    assert score("ood.vim", {"dim": dim}) == pytest.approx(
        logsumexp(QUERY @ WEIGHT.T + BIAS, axis=1) - virtual, **CLOSE
    )


def test_rectified_activations():
    limit = np.percentile(TRAIN, 80)
    expected = logsumexp(np.minimum(QUERY, limit) @ WEIGHT.T + BIAS, axis=1)
    assert score("ood.react", {"percentile": 80}) == pytest.approx(expected, **CLOSE)
    assert score("ood.react", {"percentile": 100}, TRAIN) == pytest.approx(logsumexp(TRAIN @ WEIGHT.T + BIAS, axis=1))


@pytest.mark.parametrize("variant", ["p", "b", "s"])
def test_shaped_activations_by_hand(variant):
    head = Head(torch.eye(4)[:2], torch.zeros(2))  # logits are the first two features
    shaped = {"p": [4, 0], "b": [4, 0], "s": [4 * math.exp(8 / 7), 0]}[variant]
    made = robustaug.create("ood.ash", variant=variant, percentile=50)
    found = made.score(Evidence(features=[[4.0, 1, 3, 0]], head=head))
    assert found == pytest.approx(logsumexp(shaped), **CLOSE)


def test_what_sharpening_cannot_judge_is_nan():
    head = Head(torch.eye(4)[:2], torch.zeros(2))
    rows = Evidence(features=[[4.0, 1, 3, -1], [0, 0, 0, 0], [4, 1, 3, 1]], head=head)
    assert np.isnan(robustaug.create("ood.ash").score(rows)).tolist() == [True, False, False]
    assert np.isfinite(robustaug.create("ood.ash", variant="b").score(rows)).all()


def test_stored_patterns():
    prediction = (TRAIN @ WEIGHT.T + BIAS).argmax(axis=1)
    labels = np.where(np.arange(200) % 3 == 0, LABELS, prediction)
    labels[prediction == 4] = 0  # the model is never right of class 4
    patterns = np.zeros((K, D))
    for c in range(4):
        patterns[c] = TRAIN[(prediction == c) & (labels == c)].mean(axis=0)
    expected = (QUERY * patterns[(QUERY @ WEIGHT.T + BIAS).argmax(axis=1)]).sum(axis=1)
    assert score("ood.she", labels=labels) == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_norm_of_the_last_layers_gradient_against_autograd(temperature):
    expected = []
    for row in QUERY:
        layer = linear(torch.float64)
        log_p = F.log_softmax(layer(torch.from_numpy(row)) / temperature, dim=0)
        (-log_p.mean()).backward()
        expected.append(float(layer.weight.grad.abs().sum()))
    assert score("ood.grad_norm", {"temperature": temperature}) == pytest.approx(expected, **CLOSE)


def test_a_step_towards_confidence():
    net = nn.Sequential(nn.Linear(D, 9), nn.Tanh(), nn.Linear(9, K)).double().requires_grad_(False)
    x = torch.from_numpy(QUERY)
    leaf = x.clone().requires_grad_()
    F.cross_entropy(net(leaf) / 10, net(x).argmax(dim=1), reduction="sum").backward()
    expected = ((net(x - 0.01 * leaf.grad.sign())) / 10).softmax(dim=1).amax(dim=1)
    found = robustaug.create("ood.odin", temperature=10.0, eps=0.01).score(Evidence(inputs=x, model=net))
    assert found == pytest.approx(expected.numpy(), **CLOSE)
    assert all(p.grad is None for p in net.parameters())
    still = robustaug.create("ood.odin", temperature=1.0, eps=0).score(Evidence(inputs=x, model=net))
    assert still == pytest.approx(robustaug.create("ood.msp").score(Evidence(net(x))))


def test_members_that_agree_and_members_that_do_not():
    members = np.random.default_rng(5).normal(scale=2, size=(3, 20, K))
    p = softmax(members, axis=2)
    expected = -np.mean([entropy(q, p.mean(axis=0), axis=1) for q in p], axis=0)
    made = robustaug.create("ood.disagreement")
    assert made.score(Evidence(members=members)) == pytest.approx(expected, **CLOSE)
    assert made.score(Evidence(members=np.stack([members[0]] * 3))) == pytest.approx(0, abs=1e-12)
    apart = np.array([[[900.0, 0]], [[0, 900.0]]])
    assert made.score(Evidence(members=apart)) == pytest.approx([-math.log(2)])


def peer(name):
    """Return minus the outlier scores of pytorch-ood, and the factor by which they differ from ours as published."""
    x, train, labels = (torch.from_numpy(v) for v in (QUERY, TRAIN, LABELS))
    head, logits = linear(torch.float64), torch.from_numpy(QUERY @ WEIGHT.T + BIAS)
    maps = x[:, :, None, None]

    def flat(v):
        return head(v.flatten(1))

    with torch.no_grad():
        match name:
            case "ood.msp":
                return -peers.MaxSoftmax.score(logits), 1
            case "ood.energy":
                return -peers.EnergyBased.score(logits), 1
            case "ood.max_logit":
                return -peers.MaxLogit.score(logits), 1
            case "ood.gen":
                return -peers.GEN.score(logits), K  # the peer takes the mean over classes
            case "ood.knn":
                return -peers.KNN(None, k=5).fit_features(train, labels).predict_features(x), 1
            case "ood.ash":
                return -peers.ASH(lambda v: v, flat, percentile=0.9).predict(maps), 1
            case "ood.react":
                made = peers.ReAct(lambda v: v, flat, percentile=0.9)
                return -made.fit_feature_maps(train[:, :, None, None], labels).predict_feature_maps(maps), 1
            case "ood.she":
                return -peers.SHE(lambda v: v, head).fit_features(train, labels).predict_features(x), 1
            case "ood.vim":
                made = peers.ViM(None, 6, head.weight, head.bias)
                return -made.fit_features(train, labels).predict_features(x), 1
    made = peers.GradNorm(head, param_filter=lambda key: key == "weight")
    return -made.predict(x), 1


PEERS = {  # the tolerance: 1e-6, or what the peer's float32 leaves
    **dict.fromkeys(["ood.msp", "ood.energy", "ood.max_logit", "ood.knn", "ood.ash", "ood.she", "ood.grad_norm"], 1e-6),
    "ood.react": 1e-6,
    "ood.gen": 1e-6,
    "ood.vim": 1e-4,
}


@pytest.mark.parametrize("name", PEERS)
def test_pytorch_ood_agrees(name):
    expected, factor = peer(name)
    params = {"ood.knn": {"k": 5}, "ood.vim": {"dim": 6}}.get(name)
    tolerance = PEERS[name]
    assert score(name, params) == pytest.approx(
        expected.detach().double().numpy() * factor, rel=tolerance, abs=tolerance
    )


@pytest.mark.parametrize("name", ["ood.mahalanobis", "ood.relative_mahalanobis"])
def test_pytorch_ood_agrees_on_gaussians_up_to_its_float32_and_scale(name):
    full = np.random.default_rng(7).normal(size=(230, D))  # the peer inverts the covariance, and adds 1e-6 to it
    train, query = full[:200], full[200:]
    made = peers.Mahalanobis(None) if name == "ood.mahalanobis" else peers.RMD(None)
    made.fit_features(torch.from_numpy(train).float(), torch.from_numpy(LABELS))
    found = -made.predict_features(torch.from_numpy(query).float()).double().numpy()
    # the peer leaves out that covariances are means over the 200 samples; its plain score also halves the distance
    factor = 200 * (2 if name == "ood.mahalanobis" else 1)
    assert score(name, query=query, train=train) == pytest.approx(found * factor, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ood.energy", {"temperature": math.nan}, "temperature must be > 0 and finite"),
        ("ood.odin", {"temperature": 0}, "temperature must be > 0 and finite"),
        ("ood.grad_norm", {"temperature": -1}, "temperature must be > 0 and finite"),
        ("ood.odin", {"eps": -0.1}, "eps must be >= 0"),
        ("ood.gen", {"gamma": 1.0}, r"gamma must be in \(0, 1\)"),
        ("ood.gen", {"top": 0}, "top must be a whole number >= 1"),
        ("ood.react", {"percentile": 0}, r"percentile must be in \(0, 100\]"),
        ("ood.ash", {"percentile": 100}, r"percentile must be in \[0, 100\)"),
        ("ood.ash", {"variant": "x"}, "variant must be one of 'p', 'b', 's'"),
        ("ood.vim", {"dim": -1}, "dim must be a whole number >= 0"),
        ("ood.knn", {"k": 9, "bank": 8}, "bank must be a whole number >= 9"),
    ],
)
def test_parameters_out_of_range_are_refused(name, params, message):
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        robustaug.create(name, **params)


ORIGIN = -np.linalg.pinv(WEIGHT) @ BIAS


@pytest.mark.parametrize(
    ("name", "params", "train", "message"),
    [
        ("ood.vim", {"dim": D}, TRAIN, "dim must be < the 12 features, got 12"),
        ("ood.vim", {"dim": 1}, ORIGIN + TRAIN[:, :1] * BIAS[0], "1 directions hold all training features"),
        ("ood.mahalanobis", {}, TRAIN * 0 + 1, "the training features do not vary"),
        ("ood.she", {}, np.tile(50 * np.linalg.pinv(WEIGHT)[:, 0], (200, 1)), "of no training sample"),
    ],
)
def test_training_data_that_teaches_nothing_is_refused(name, params, train, message):
    labels = np.full(200, K - 1) if name == "ood.she" else LABELS  # the model says class 0 throughout
    with pytest.raises(ValueError, match=message):
        score(name, params, train=train, labels=labels)

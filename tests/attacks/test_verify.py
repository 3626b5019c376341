import pytest
import torch
from torch import nn

from robustaug.attacks.threat import NORMS, Ball, Threat
from robustaug.attacks.verify import broken, verify

THREAT = Threat(NORMS["Linf"])


class Sign(nn.Module):
    """Says class 1 where the first value is above one half."""

    def forward(self, x):
        z = x.flatten(1)[:, 0] - 0.5
        return torch.stack([-z, z], 1)


def check(clean, x_adv, eps=0.2, model=None, mask=None, threat=THREAT, size=3):
    label = (clean.flatten(1)[:, 0] > 0.5).long()
    ball = Ball(threat, clean, torch.full((len(clean),), eps, dtype=torch.float64), mask)
    return verify(model or Sign(), ball, x_adv, label, size)


def test_a_witness_must_be_near_inside_the_box_and_wrong():
    clean = torch.tensor([[0.45, 0.0], [0.45, 0.0], [0.45, 0.0], [0.45, 0.0]])
    x_adv = torch.tensor([[0.55, 0.0], [0.66, 0.0], [0.55, -0.1], [0.44, 0.0]])
    assert check(clean, x_adv).tolist() == [True, False, False, False]


def test_the_norm_may_be_over_by_rounding_only():
    clean = torch.tensor([[0.4]], dtype=torch.float64)
    over = [clean + 0.2 * (1 + slip) for slip in (0.0, 5e-7, 2e-6)]
    assert [bool(check(clean, x)) for x in over] == [True, True, False]


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_is_held_to_its_own_measure(norm):
    clean, x_adv = torch.tensor([[0.45, 0.5, 0.5, 0.5]]), torch.tensor([[0.55, 0.6, 0.5, 0.5]])
    length = {"Linf": 0.1, "L2": 0.02**0.5, "L1": 0.2, "L0": 2.0}[norm]
    verdicts = [check(clean, x_adv, eps=length * share, threat=Threat(NORMS[norm])) for share in (1.001, 0.999)]
    assert [bool(v) for v in verdicts] == [True, False]


def test_values_off_the_mask_must_be_as_they_were():
    clean, x_adv = torch.full((2, 2), 0.45), torch.tensor([[0.55, 0.45], [0.55, 0.46]])
    assert check(clean, x_adv, mask=torch.tensor([[True, False]]).expand(2, 2)).tolist() == [True, False]


def test_each_value_is_held_to_its_own_box():
    wide_beside_narrow = Threat(NORMS["Linf"], torch.tensor([0.0, 0.4]), torch.tensor([1e6, 1.0]))
    clean, x_adv = torch.full((3, 2), 0.45), torch.tensor([[0.55, 0.4], [0.55, 0.39], [0.55, 0.6]])
    assert check(clean, x_adv, threat=wide_beside_narrow).tolist() == [True, False, True]


@pytest.mark.parametrize(("n", "size"), [(1, 2), (2, 5), (8, 4), (20, 3), (3, 1)])
def test_every_pass_takes_exactly_as_many_samples_as_it_is_told(n, size):
    asked = []

    class Watched(Sign):
        def forward(self, x):
            asked.append(len(x))
            return super().forward(x)

    clean, x_adv = torch.full((n, 1), 0.45), torch.full((n, 1), 0.55)
    x_adv[-1] = 0.46  # what fills a pass up is thrown away
    assert check(clean, x_adv, model=Watched(), size=size).tolist() == [True] * (n - 1) + [False]
    assert asked == [size] * -(-n // size)


def test_no_samples_need_no_model():
    assert check(torch.zeros(0, 2), torch.zeros(0, 2)).shape == (0,)


def test_an_answer_with_nan_or_infinity_on_top_breaks_nothing():
    nan, inf = torch.nan, torch.inf
    logits = torch.tensor([[0.0, 1.0], [nan, 1.0], [0.0, nan], [0.0, inf], [-inf, 1.0], [-inf, -inf]])
    assert broken(logits, torch.zeros(6, dtype=torch.int64)).tolist() == [True, False, False, False, True, False]
    assert broken(logits, torch.ones(6, dtype=torch.int64), targeted=True).tolist() == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]


def test_autocast_is_off_while_verifying():
    seen = []

    class Watched(Sign):
        def forward(self, x):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        check(torch.full((2, 1), 0.45), torch.full((2, 1), 0.55), model=Watched())
    assert seen
    assert not any(seen)

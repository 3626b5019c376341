import torch
import torch.nn.functional as F

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import Facts, View

GROUPS = torch.tensor([0] * 16 + [1] * 4 + [2])
FACTS = Facts(robustaug.create("data.digits"), GROUPS, 3, GROUPS, ("a", "b", "c"), 10, 5, torch.device("cpu"))


def test_the_mean_is_the_groups_losses_by_weights_that_grow_with_them():
    loss = robustaug.create("loss.group_dro", step_size=0.3, adjustment=2.0)
    model, memory = torch.nn.Linear(4, 3), loss.memory(FACTS)
    q = torch.full((3,), 1 / 3)
    for rows in (torch.tensor([0, 1, 2, 16, 17, 20]), torch.tensor([3, 4, 18])):  # the second without group c
        x, y, group = torch.rand(len(rows), 4), rows % 3, GROUPS[rows]
        each = F.cross_entropy(model(x), y, reduction="none").detach()
        means = {int(g): each[group == g].mean() for g in group.unique()}
        for g, mean in means.items():
            q[g] *= torch.exp(0.3 * (mean + 2.0 / (g == GROUPS).sum().sqrt()))
        q /= q.sum()
        losses = loss(model, View(x, y, rows, Keys.of(0, len(rows)), group=group), memory)
        assert torch.allclose(memory["weights"], q, atol=1e-6)
        assert torch.allclose(losses.mean(), sum(q[g] * mean for g, mean in means.items()), atol=1e-6)


def test_at_the_start_every_group_counts_the_same():
    memory = robustaug.create("loss.group_dro").memory(FACTS)
    assert torch.allclose(memory["weights"], torch.full((3,), 1 / 3))

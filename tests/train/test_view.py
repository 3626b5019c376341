import pytest
import torch

from robustaug.rng import Keys
from robustaug.train.view import Unlabelled, View, pieces


def view(n, **fields):
    return View(torch.rand(n, 3), torch.arange(n) % 4, torch.arange(n) + 10, Keys.of(0, n), **fields)


def test_labels_are_soft_where_asked():
    assert torch.equal(view(4).soft(5), torch.eye(5)[:4])
    shares = torch.full((4, 5), 0.2)
    assert view(4, target=shares).soft(5) is shares


def test_parts_hold_every_sample_once_with_all_that_belongs_to_it():
    whole = view(
        7,
        target=torch.rand(7, 4),
        group=torch.arange(7),
        x_adv=torch.rand(7, 3),
        strong=(torch.rand(7, 3), torch.rand(7, 3)),
        unlabelled=Unlabelled(torch.rand(14, 3), torch.rand(14, 3), Keys.of(1, 14), 2.0),
    )
    parts = whole.split(3)
    assert [len(part) for part in parts] == [3, 3, 1]
    for key in ("x", "y", "position", "target", "group", "x_adv"):
        assert torch.equal(torch.cat([getattr(part, key) for part in parts]), getattr(whole, key))
    assert torch.equal(torch.cat([part.keys.index for part in parts]), whole.keys.index)
    for number in (0, 1):
        assert torch.equal(torch.cat([part.strong[number] for part in parts]), whole.strong[number])
        assert torch.equal(torch.cat([part.unlabelled[number] for part in parts]), whole.unlabelled[number])
    assert torch.equal(torch.cat([part.unlabelled.keys.index for part in parts]), torch.arange(14))
    # the mean over labelled samples holds the mean over those without labels, however the batch is cut
    each = torch.rand(14)
    given = each.split([len(part.unlabelled.x) for part in parts])
    shared = sum(
        part.unlabelled.share(losses, len(part)) * len(part) for part, losses in zip(parts, given, strict=True)
    )
    assert float(shared / 7) == pytest.approx(float(each.mean()))


def test_more_parts_than_samples_leave_none_empty():
    assert [len(part) for part in view(2).split(8)] == [1, 1]


def test_attacks_lead_away_from_the_class_that_a_mixture_shows_most_of():
    target = torch.tensor([[0.7, 0.3, 0.0, 0.0], [0.6, 0.4, 0.0, 0.0]])
    assert view(2).shown.tolist() == [0, 1]
    assert view(2, target=target).shown.tolist() == [0, 0]


def test_as_many_pieces_as_parts():
    for n in range(9):
        assert [len(view(n).split(parts)) for parts in (1, 2, 3, 8)] == [pieces(n, parts) for parts in (1, 2, 3, 8)]


def test_a_blank_stands_for_none_and_has_all_that_the_view_has():
    sent = []
    whole = view(
        0,
        target=torch.rand(0, 4),
        x_adv=torch.rand(0, 3),
        strong=(torch.rand(0, 3),),
        unlabelled=Unlabelled(torch.rand(5, 3), torch.rand(5, 3), Keys.of(0, 5), 2.0),
        everywhere=lambda rows: sent.append(len(rows)) or rows,
    )
    blank = whole.blanked()
    assert blank.blank
    assert not whole.blank
    for rows in (blank.x, blank.y, blank.position, blank.target, blank.x_adv, *blank.strong, *blank.unlabelled[:2]):
        assert len(rows) == 2
        assert not rows.any()
    assert len(blank.keys) == len(blank.unlabelled.keys) == 2
    assert blank.everywhere(blank.x).shape == (0, 3)
    assert sent == [0]

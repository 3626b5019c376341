"""Series, texts and tables as pictures: what changed stands out."""

import numpy as np

from robustaug.report.drawings import draw_series, draw_table, draw_text, of_one_size

RED, PAPER = (190, 30, 45), 255


def reddish(picture: np.ndarray) -> int:
    red, green, blue = picture.astype(int)
    return int(((red - green > 60) & (red - blue > 60)).sum())


def test_a_series_lies_over_what_it_was():
    before = np.stack([np.sin(np.linspace(0, 6, 100)), np.linspace(-3, 9, 100)])
    same, moved = draw_series(before, before), draw_series(before + np.array([[0.5], [0]]), before)
    assert same.shape == moved.shape
    assert same.dtype == np.uint8
    half = same.shape[1] // 2
    assert (same[:, :half] != moved[:, :half]).any()
    assert (same[:, half:] == moved[:, half:]).all()
    colours = np.unique(moved[:, :half].reshape(3, -1).T, axis=0)
    assert len(colours) >= 3  # paper, the curve it was, the curve it is


def test_gaps_flat_and_endless_series_are_drawn():
    before = np.zeros((2, 50))
    now = before.copy()
    now[0, 10:20] = np.nan
    now[1] = 1e30
    picture = draw_series(now, before)
    assert (picture[:, :56] < 100).any()


def test_only_the_words_that_changed_are_red():
    before = "The quick brown fox"
    assert reddish(draw_text(before, before)) == 0
    one, two = (reddish(draw_text(text, before)) for text in ("The quikc brown fox", "The quikc browm fox"))
    assert 0 < one < two
    assert (draw_text(before, before) != PAPER).any()


def test_a_character_without_a_glyph_shows_its_code_and_long_words_are_cut():
    assert (draw_text("\u0430", "") != draw_text("\u0435", "")).any()
    assert draw_text("x" * 500, "").shape[1] > draw_text("x", "").shape[1]
    assert draw_text("", "").shape[0] == 3
    assert draw_text("a\nb\t\u200b\U0001f600", "a").dtype == np.uint8


def test_only_the_cells_that_changed_are_red():
    before = [["0", "1.5", "cook"], ["1", "2", "smith"]]
    names = ["row", "size", "job"]
    assert reddish(draw_table(names, before, before)) == 0
    one = draw_table(names, [["0", "9.5", "cook"], ["1", "2", "smith"]], before)
    assert reddish(one) > 0
    assert reddish(one[:, 36:]) == 0  # the second row stayed


def test_pictures_of_different_sizes_become_one_stack():
    stack = of_one_size([np.zeros((3, 4, 9), np.uint8), np.zeros((3, 7, 2), np.uint8)])
    assert stack.shape == (2, 3, 7, 9)
    assert (stack[0, :, 4:] == PAPER).all()

"""The compiled draws: bit for bit those of the torch definition, whatever the threads and the process."""

import multiprocessing
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from robustaug import philox, threads
from robustaug.rng import Keys, box_muller, normal_field, to_unit, torch_floats, torch_words, uniform_field
from tests.test_rng import KNOWN_ANSWERS, words

SHAPES = [(0,), (1,), (2,), (3,), (4,), (5,), (31,), (3, 7, 11), (3, 64, 64)]
LARGE = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**62, 2**63 - 1]
NORMAL_TOLERANCE = 1e-6  # two units in the last place of the largest values


@pytest.fixture(params=[1, 2])
def thread_count(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter, key, answer):
    unsigned = [np.uint64(word) for word in [*words(counter), *words(key)]]
    assert [int(word) for word in philox.philox4(*unsigned)] == words(answer)


def test_words_are_those_of_the_definition(thread_count):
    keys = Keys.of(2**64 - 1, LARGE, epoch=3).fold("words")
    for n in (0, 1, 4, 7, 5001):
        for use in (0, 1):
            assert torch.equal(philox.words(keys.rows(), n, use), torch_words(keys.rows(), n, use))
    assert torch.equal(keys.bits(9), torch_words(keys.rows(), 9, 0))


@pytest.mark.parametrize("shape", SHAPES)
def test_fields_are_those_of_the_definition(shape, thread_count):
    rows = Keys.of(7, LARGE).fold("field").rows()
    n = int(np.prod(shape))
    uniform = uniform_field(rows, shape)
    assert uniform.shape == (len(LARGE), *shape)
    assert torch.equal(uniform.flatten(1), torch_floats(rows, n, 1, to_unit))
    normal = normal_field(rows, shape).flatten(1)
    torch.testing.assert_close(normal, torch_floats(rows, n, 1, box_muller), atol=NORMAL_TOLERANCE, rtol=0)


def test_small_draws_are_those_of_the_definition():
    keys = Keys.of(7, LARGE).fold("scalars")
    for n in (0, 1, 2, 5):
        assert torch.equal(keys.uniform(n), torch_floats(keys.rows(), n, 0, to_unit))
        normal = torch_floats(keys.rows(), n, 0, box_muller)
        torch.testing.assert_close(keys.normal(n), normal, atol=NORMAL_TOLERANCE, rtol=0)


def test_a_field_longer_than_a_piece_has_no_seams(thread_count):
    rows = Keys.of(1, 2).rows()
    n = 2 * philox._PIECE + 3
    assert torch.equal(uniform_field(rows, (n,)), torch_floats(rows, n, 1, to_unit))
    normal = torch_floats(rows, n, 1, box_muller)
    torch.testing.assert_close(normal_field(rows, (n,)), normal, atol=NORMAL_TOLERANCE, rtol=0)


def test_the_rarest_words_give_finite_normals():
    extremes = [0, 0xFF, 0x100, 0x7FFFFFFF, 0x80000000, 0xFFFFFEFF, 0xFFFFFF00, 0xFFFFFFFF]
    for first in extremes:
        for second in extremes:
            ours = philox.to_normals.py_func(*(np.uint64(word) for word in (first, second)))
            [expected] = box_muller(torch.tensor([[first, second]]))
            assert np.isfinite(ours).all()
            np.testing.assert_allclose(ours, expected.numpy(), atol=NORMAL_TOLERANCE)


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4, 5, 150, 2**20 + 1])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 9])
def test_a_row_may_begin_at_any_draw(first, n):
    [row] = Keys.of(3, [2**40]).rows()
    whole = Keys.of(3, [2**40]).rows()
    for fill, convert in ((philox.fill_uniform, to_unit), (philox.fill_normal, box_muller)):
        out = np.full(n + 2, -9, dtype=np.float32)
        fill(out[1 : n + 1], first, *row.tolist())
        expected = torch_floats(whole, first + n, 1, convert)[0, first:]
        np.testing.assert_allclose(out[1 : n + 1], expected.numpy(), atol=NORMAL_TOLERANCE)
        assert out[0] == out[-1] == -9


def test_keys_in_any_memory_layout_draw_the_same():
    rows = Keys.of(5, 12).rows()
    field = uniform_field(rows, (10,))
    assert torch.equal(uniform_field(rows[::3], (10,)), field[::3])
    assert torch.equal(uniform_field(rows.T.contiguous().T, (10,)), field)
    assert torch.equal(uniform_field(rows[:1].expand(3, 4), (10,)), field[:1].expand(3, 10))


def _digest() -> tuple[int, bytes]:
    torch.set_num_threads(2)
    return os.getpid(), normal_field(Keys.of(4, 6).rows(), (3, 100, 100)).numpy().tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_draws_the_same(method):
    before = torch.get_num_threads()
    _, here = _digest()  # the pool has its threads by now, and a forked child has not
    torch.set_num_threads(before)
    with multiprocessing.get_context(method).Pool(1) as pool:
        child, there = pool.apply_async(_digest).get(timeout=120)
    assert child != os.getpid()
    assert there == here


def test_importing_does_not_import_numba():
    code = "import sys, robustaug, robustaug.rng; robustaug.rng.Keys.of(0, 3); print('numba' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_keys_still_pickle():
    keys = Keys.of(1, 3).fold("a")
    assert torch.equal(pickle.loads(pickle.dumps(keys)).bits(), keys.bits())


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 9, 1000])
def test_chunks_cover_everything_once(n, thread_count):
    counts = np.zeros(n, dtype=int)

    def count(array, start, stop):
        assert 0 <= start < stop <= n
        array[start:stop] += 1

    threads.run(count, n, counts)
    assert (counts == 1).all()


def test_chunks_may_be_split_again(thread_count):
    counts = np.zeros((40, 40), dtype=int)

    def inner(row, start, stop):
        row[start:stop] += 1

    def outer(start, stop):
        for i in range(start, stop):
            threads.run(inner, 40, counts[i])

    threads.run(outer, 40)
    assert (counts == 1).all()


def test_a_failure_in_a_thread_reaches_the_caller(thread_count):
    def fail(start, stop):
        if start <= 50 < stop:
            raise RuntimeError("number 50")

    with pytest.raises(RuntimeError, match="number 50"):
        threads.run(fail, 100)
    counts = np.zeros(100, dtype=int)
    threads.run(lambda start, stop: counts.__setitem__(slice(start, stop), 1), 100)
    assert counts.all()

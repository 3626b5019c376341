import numpy as np
import pytest
import torch

import robustaug

CPU = torch.device("cpu")


def source(path, **params):
    return robustaug.create("data.series", path=str(path), **params)


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(2.0, 3.0, shape)


def everything(part):
    return part.as_input(part.fetch(range(len(part)))[0].image, CPU)


def test_an_npz_an_npy_and_a_csv_hold_the_same_series(tmp_path):
    x, y = drawn((6, 2, 4)), np.array([0, 1, 2, 0, 1, 2])
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y.astype(float))
    rows = [",".join([*(f"{v!r}" for v in map(float, row.reshape(-1))), str(k)]) for row, k in zip(x, y, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join([",".join([f"s{i}" for i in range(8)] + ["label"]), *rows]) + "\n")
    found = [
        source(tmp_path / "a.npz"),
        source(tmp_path / "x.npy", labels=str(tmp_path / "y.npy")),
        source(tmp_path / "a.csv", channels=2),
    ]
    for one in found:
        assert (one.shape, one.classes, one.labels.tolist()) == ((2, 4), ["0", "1", "2"], y.tolist())
        assert torch.equal(everything(one), everything(found[0]))


def test_channels_are_standardised_by_the_training_part_and_gaps_read_as_its_mean(tmp_path):
    x = drawn((40, 2, 9)) * np.array([1.0, 50.0])[:, None]
    x[0, 0, 3] = np.nan
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2)
    train, test = source(tmp_path / "a.npz", split="train"), source(tmp_path / "a.npz", split="test")
    rows = x[train.sample_index.numpy()]
    mean, spread = np.nanmean(rows, axis=(0, 2)), np.nanstd(rows, axis=(0, 2))
    expected = (x[test.sample_index.numpy()] - mean[:, None]) / spread[:, None]
    np.testing.assert_allclose(everything(test).numpy(), np.nan_to_num(expected), atol=1e-5)
    raw = source(tmp_path / "a.npz", standardise=False)
    assert raw.fetch([0])[0].image.isnan().sum() == 1
    assert float(everything(raw)[0, 0, 3]) == pytest.approx(float(np.nanmean(x[:, 0])), rel=1e-5)


@pytest.mark.parametrize("standardise", [True, False])
def test_another_file_is_read_by_the_training_part_of_the_one_that_fits(tmp_path, standardise):
    x, y = drawn((40, 2, 9)), np.array(["no", "yes"])[np.arange(40) % 2]
    x[3, 0, 1] = np.nan
    np.savez(tmp_path / "a.npz", x=x, y=y)
    held = source(tmp_path / "a.npz", split="test", standardise=standardise)
    np.savez(tmp_path / "b.npz", x=x[:5], y=["yes"] * 5)
    one = source(tmp_path / "b.npz", fit=str(tmp_path / "a.npz"), standardise=standardise)
    assert (one.classes, one.labels.tolist()) == (["no", "yes"], [1] * 5)
    assert one.encoding == held.encoding != source(tmp_path / "b.npz", standardise=standardise).encoding
    other = source(tmp_path / "a.npz", split="train", standardise=standardise)
    whole = other.as_input(other.images.gather(torch.arange(5))[0], CPU)  # of the root source, as training sees them
    assert torch.equal(everything(one), whole)
    np.savez(tmp_path / "c.npz", x=x[:, :1], y=y)
    with pytest.raises(ValueError, match=r"has 2 channels, but .* has 1"):
        source(tmp_path / "b.npz", fit=str(tmp_path / "c.npz"))
    np.savez(tmp_path / "d.npz", x=x[:2], y=["yes", "on"])
    with pytest.raises(ValueError, match=r"d\.npz: row 2: array 'y' reads 'on', which is not in classes"):
        source(tmp_path / "d.npz", fit=str(tmp_path / "a.npz"))


def test_a_channel_that_never_varies_is_no_division_by_rounding(tmp_path):
    x = np.stack([np.full((7, 3), 0.1), drawn((7, 3))], axis=1)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(7) % 2)
    assert everything(source(tmp_path / "a.npz"))[:, 0].abs().max() < 1e-6


def test_a_suffix_may_be_in_upper_case_and_labels_bytes(tmp_path):
    with (tmp_path / "A.NPZ").open("wb") as file:
        np.savez(file, x=drawn((2, 3)), y=np.array([b"caf\xc3\xa9", b"bar"]))
    assert source(tmp_path / "A.NPZ").classes == ["bar", "caf\u00e9"]


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("a.npz", {"channels": 1}, r"channels is for table files, path is of kind \.npz"),
        ("a.npz", {"labels": "y.npy"}, r"labels is for \.npy files, path is of kind \.npz"),
        ("a.csv", {"values": "x"}, r"values is for \.npz files, path is of kind table"),
        ("x.npy", {"label": "y"}, r"label is for \.npz and table files, path is of kind \.npy"),
        ("renamed.npz", {}, "holds one array without a name"),
        ("renamed.npy", {"labels": "y.npy"}, "holds arrays by name"),
        ("bytes.npz", {}, "is damaged or no NumPy file"),
    ],
)
def test_arguments_for_files_of_another_kind_and_wrong_suffixes_are_named(tmp_path, name, params, message):
    np.save(tmp_path / "x.npy", drawn((2, 3)))
    (tmp_path / "renamed.npz").write_bytes((tmp_path / "x.npy").read_bytes())
    np.savez(tmp_path / "a.npz", x=drawn((2, 3)), y=[0, 1])
    (tmp_path / "renamed.npy").write_bytes((tmp_path / "a.npz").read_bytes())
    np.savez(tmp_path / "bytes.npz", x=drawn((2, 3)), y=np.array([b"\xff", b"a"]))
    (tmp_path / "a.csv").write_text("a,label\n1,0\n2,1\n")
    with pytest.raises(ValueError, match=message):
        source(tmp_path / name, **params)


def test_a_damaged_member_is_named(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((50, 30)), y=np.zeros(50, int))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[60:70] = b"\xff" * 10  # in the deflated stream of x: zlib itself complains
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: is damaged or no NumPy file"):
        source(tmp_path / "a.npz")


def ragged(path):
    held = np.empty(2, dtype=object)
    held[:] = [[1.0], [1.0, 2.0]]
    np.savez(path, x=held, y=np.arange(2))


@pytest.mark.parametrize(
    ("write", "params", "message"),
    [
        (ragged, {}, "lists of different lengths do"),
        (lambda p: np.savez(p, x=drawn((2, 3)), z=[0, 1]), {}, r"no array 'y'; it has \['x', 'z'\]"),
        (lambda p: np.savez(p, x=drawn((2, 3)), y=[0, 1, 1]), {}, r"labels must have shape \(2,\).*got \(3,\)"),
        (lambda p: np.savez(p, x=drawn((2, 3)), y=[0, np.nan]), {}, "row 2: array 'y' holds no label"),
        (lambda p: np.savez(p, x=np.array([["a"]]), y=[0]), {}, "one array of numbers"),
        (
            lambda p: np.savez(p, x=np.array([[0.0], [np.inf]]), y=[0, 1]),
            {},
            "series 2 is infinite at step 1",
        ),
        (lambda p: p.write_bytes(b"PK no zip"), {}, "is damaged or no NumPy file"),
    ],
)
def test_what_is_wrong_with_an_npz_is_named(tmp_path, write, params, message):
    write(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=message):
        source(tmp_path / "a.npz", **params)


@pytest.mark.parametrize(
    ("content", "params", "message"),
    [
        ("a,b,label\n1,2,0\n1,0\n", {}, r"row 2: column 'label' has no cell: 2 cells for 3 columns, '1,0'"),
        ("a,b,label\n1,x,0\n", {}, "row 1: column 'b' reads 'x', which is no finite number"),
        ("a,b,label\n1,3_4,0\n", {}, "row 1: column 'b' reads '3_4', which is no finite number"),
        ("a,b,label\n1,2,0\n", {"channels": 0}, "channels must be a whole number >= 1, got 0"),
        ("a,b,label\n1,2,0\n", {"channels": 3}, "channels must divide its 2 columns of values, got 3"),
        ("a,b,lable\n1,2,0\n", {}, "no column 'label'; did you mean 'lable'"),
    ],
)
def test_what_is_wrong_with_a_csv_is_named(tmp_path, content, params, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        source(tmp_path / "a.csv", **params)


def test_an_npy_needs_labels_and_a_file_that_is_there(tmp_path):
    np.save(tmp_path / "x.npy", drawn((2, 3)))
    with pytest.raises(ValueError, match=r"labels=\.\.\. names the \.npy"):
        source(tmp_path / "x.npy")
    with pytest.raises(FileNotFoundError, match="no file at"):
        source(tmp_path / "x.npy", labels=str(tmp_path / "y.npy"))


class TestWaves:
    def test_a_series_is_the_same_for_any_number_of_them(self):
        few, many = (robustaug.create("data.waves", n=n, steps=16) for n in (8, 20))
        assert torch.equal(everything(few), everything(many)[:8])

    def test_the_class_is_the_number_of_periods(self):
        """Without noise the strongest frequency of 2 + k periods, give or take a quarter, is 2 + k."""
        waves = robustaug.create("data.waves", n=100, noise=0.0)
        spectrum = torch.fft.rfft(everything(waves)[:, 0]).abs()
        assert torch.equal(spectrum.argmax(1) - 2, waves.labels)

    @pytest.mark.parametrize(
        ("params", "message"),
        [({"n": 0}, "n must be"), ({"classes": 1}, "classes must be"), ({"noise": -1}, "noise must")],
    )
    def test_wrong_numbers_are_named(self, params, message):
        with pytest.raises(ValueError, match=message):
            robustaug.create("data.waves", **params)

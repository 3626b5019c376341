"""What every operator on tables promises, and each against its definition."""

import pickle

import numpy as np
import pytest
import torch

import robustaug
from robustaug.drawn_params import load_params, save_params
from robustaug.ops.operator import SEVERITIES
from robustaug.ops.tabular.operator import mean_and_spread
from robustaug.ops.tabular.table import TABLES, Table, with_levels
from robustaug.pipeline import build_operator, fitted
from robustaug.registry import lookup
from robustaug.rng import Keys

pd = pytest.importorskip("pandas")
NAMES = robustaug.list(kind="operator", modality="tabular")
every = pytest.mark.parametrize("name", NAMES)
FAMILIES = {"missing", "measurement", "category", "schema", "shift"}
WHOLE = [*robustaug.list(modality="tabular", tag="shift"), "tabular.duplicate_rows"]
ROWWISE = [name for name in NAMES if "batchwise" not in lookup(name).tags]


@pytest.fixture(scope="module")
def frame():
    random = np.random.default_rng(0)
    n = 400
    return pd.DataFrame(
        {
            "age": random.integers(18, 90, n),
            "income": random.lognormal(3, 1, n),
            "height": np.where(random.random(n) < 0.1, np.nan, random.normal(170, 10, n)),
            "job": random.choice(["cook", "smith", "nurse"], n),
            "sex": pd.Categorical(random.choice(["f", "m"], n)),
            "member": random.random(n) < 0.5,
            "since": pd.date_range("2001-01-01", periods=n),
            "label": random.choice(["no", "yes"], n, p=[0.8, 0.2]),
        },
        index=[f"row{i}" for i in range(n)],
    )


def numbers(n: int = 400, columns: int = 5) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(n, columns, generator=draw) * torch.logspace(-1, 3, columns) + torch.linspace(-5, 5, columns)


def same(a, b) -> bool:
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def changed(a, b) -> float:
    """Share of cells that differ."""
    return float(((a != b) & ~(a.isnan() & b.isnan())).double().mean())


def test_the_room_is_whole():
    assert len(NAMES) == 18
    for name in NAMES:
        assert len(lookup(name).tags & FAMILIES) == 1
        assert all(space.describe() for space in robustaug.create(name).spaces.values())


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_tensors_keep_shape_and_dtype_and_stay_as_they_were(name, dtype):
    table = (torch.rand(50, 4, generator=torch.Generator().manual_seed(1)) * 3).to(dtype)
    table[3, 2] = torch.nan
    before = table.clone()
    out = robustaug.create(name)(table, seed=1)
    assert out.shape == table.shape
    assert out.dtype == dtype
    assert same(table, before)
    assert robustaug.create(name)(table[0], seed=1).shape == (4,)
    assert robustaug.create(name)(table[:0]).shape == (0, 4)


@every
def test_frames_keep_their_columns_and_rows_and_stay_as_they_were(name, frame):
    before = frame.copy(deep=True)
    out = robustaug.create(name)(frame, seed=2)
    pd.testing.assert_frame_equal(frame, before)
    assert list(out.columns) == list(frame.columns)
    assert len(out) == len(frame)
    if name in WHOLE:
        assert set(out.index) <= set(frame.index)
        pd.testing.assert_frame_equal(out, frame.loc[out.index])  # whole rows, dates included
    else:
        assert (out.index == frame.index).all()
        pd.testing.assert_series_equal(out["since"], frame["since"])
    assert not out.equals(frame)
    assert robustaug.create(name)(frame.iloc[:0]).shape == (0, frame.shape[1])


@pytest.mark.parametrize("name", ROWWISE)
def test_a_row_gets_the_same_whatever_the_batch_and_the_order(name, frame):
    operator = robustaug.create(name, p=0.8).fit(numbers())
    table = numbers()
    whole = operator(table, seed=2, epoch=1)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(1))[:50]
    assert same(operator(table[order], seed=2, epoch=1, index=order), whole[order])
    one = torch.stack([operator(table[i], seed=2, epoch=1, index=int(i)) for i in order[:5]])
    assert same(one, whole[order[:5]])


@every
def test_same_keys_same_result_and_another_seed_another(name, frame):
    operator = robustaug.create(name)
    assert operator(frame, seed=3).equals(operator(frame, seed=3))
    if name != "tabular.rounding":
        assert not operator(frame, seed=3).equals(operator(frame, seed=4))


@every
def test_replays_exactly_also_from_a_file(name, tmp_path):
    operator, table = robustaug.create(name, p=0.9), numbers()
    params = operator.sample(Keys.of(2, 400))
    save_params(tmp_path / "p.safetensors", params)
    assert same(operator.apply(table, params), operator.apply(table, load_params(tmp_path / "p.safetensors")))


@every
def test_identity_and_p_zero_change_nothing(name, frame):
    declared = robustaug.create(name).declared
    identity = {key: space.identity for key, space in declared.items() if space.identity is not None}
    assert robustaug.create(name, p=0)(frame).equals(frame)
    if identity and "shift" not in lookup(name).tags:  # re-sampling draws rows even from unchanged chances
        assert robustaug.create(name, **identity)(frame).equals(frame)


@pytest.mark.parametrize("name", [n for n in NAMES if "shift" not in lookup(n).tags])
def test_damage_grows_with_severity(name, frame):
    damage = []
    for severity in SEVERITIES:
        out = robustaug.create(name, severity=severity)(frame, seed=1)
        damage.append(float((out.astype(str).to_numpy() != frame.astype(str).to_numpy()).mean()))
        if name in ("tabular.rounding", "tabular.noise"):
            damage[-1] = float((out["income"] - frame["income"]).abs().mean())
    assert damage == sorted(damage)
    assert damage[-1] > damage[0] > 0


@every
def test_spec_repr_and_pickle_rebuild_it(name, frame):
    columns = {} if name in WHOLE else {"columns": ["job"] if "category" in lookup(name).tags else ["age"]}
    for params in ({}, {"p": 0.5}, {"severity": 2}, columns):
        operator = robustaug.create(name, **params)
        assert build_operator(operator.spec()) == operator
        assert eval(repr(operator), {"robustaug": robustaug}) == operator
        assert pickle.loads(pickle.dumps(operator)) == operator


@every
def test_mistakes_are_named(name, frame):
    operator = robustaug.create(name)
    for bad, error, message in [
        ([1, 2], TypeError, "must be a pandas.DataFrame or a torch.Tensor, got list"),
        (torch.ones(3, 3, dtype=torch.int64), TypeError, "must be floating"),
        (torch.ones(2, 2, 2), ValueError, r"shape \(F,\) or \(B, F\)"),
        (torch.full((2, 2), torch.inf), ValueError, "infinite values"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "columns of the same name"),
    ]:
        with pytest.raises(error, match=message):
            operator(bad)
    if name in WHOLE:
        with pytest.raises(TypeError, match="moves whole rows"):
            robustaug.create(name, columns=["age"])
    else:
        with pytest.raises(ValueError, match=r"has no .*column 'agee'"):
            robustaug.create(name, columns=["agee"])(frame)
    if "shift" in lookup(name).tags:
        with pytest.raises(ValueError, match="'agee'"):
            robustaug.create(name, column="agee")(frame)


def test_pipelines_work_on_frames_and_tensors(frame):
    pipeline = robustaug.Pipeline.from_yaml(
        """
        - tabular.unit_error: {columns: [income], share: 0.5}
        - compose.one_of: {of: [tabular.outliers, tabular.unseen_category], p: 0.5}
        - compose.some_of: {of: [tabular.swap_category, tabular.missing_at_random], n: 1}
        """
    )
    assert robustaug.Pipeline.from_yaml(pipeline.to_yaml()) == pipeline
    assert pipeline(frame).shape == frame.shape
    with pytest.raises(ValueError, match="mixes operators on image and tabular"):
        robustaug.Pipeline(["tabular.noise", "image.invert"])


@pytest.mark.parametrize("n", [1, 2])
def test_rows_that_take_different_ways_keep_their_categories_whatever_the_batch(n, frame):
    """An operator that adds a category stands before, between and behind those that add none."""
    unseen = {"tabular.unseen_category": {"share": 1.0}}
    ways = [{"tabular.swap_category": {"share": 1.0}}, unseen, {"tabular.outliers": {"share": 1.0}}]
    for of in (ways, [unseen, ways[2]], [ways[2], unseen])[: 3 if n == 1 else 1]:
        route = {"compose.one_of": {"of": of}} if n == 1 else {"compose.some_of": {"of": of, "n": n}}
        operator, few = fitted(build_operator(route), frame), frame.iloc[:20]
        table = operator.transform(TABLES.to_batch(few)[0], operator.sample(Keys.of(1, 20)))
        for column, known in enumerate(table.levels):
            assert 0 <= int(table.codes[:, column].min()) <= int(table.codes[:, column].max()) < len(known)
        whole = operator(few, seed=1)
        assert (whole["job"] == "unseen category").any()
        assert (whole["job"] != "unseen category").any()
        for row in range(20):
            alone = operator(few.iloc[row : row + 1], seed=1, index=torch.tensor([row]))
            pd.testing.assert_frame_equal(alone, whole.iloc[row : row + 1], check_dtype=False, check_categorical=False)


def test_codes_are_counted_anew_in_other_levels():
    table = Table(
        torch.zeros(4, 0), torch.tensor([[0], [1], [2], [-1]]), torch.arange(4), (), ("c",), (("a", "b", "c"),)
    )
    moved = with_levels(table, (("c", "z", "a"),))
    assert moved.levels == (("c", "z", "a", "b"),)
    assert moved.codes.flatten().tolist() == [2, 3, 0, -1]
    assert with_levels(table, table.levels).codes.tolist() == table.codes.tolist()


def test_a_column_that_never_varies_has_no_spread_however_its_mean_is_rounded():
    gone, held = [float("nan")], [0.1] * 3
    values = torch.tensor([gone * 4, gone + held, held + gone, [1.0, 2.0, 3.0, 6.0]], dtype=torch.float64).T
    mean, spread = mean_and_spread(values)
    assert mean.tolist() == pytest.approx([0.0, 0.1, 0.1, 3.0])
    assert spread.tolist() == pytest.approx([0.0, 0.0, 0.0, 3.5**0.5])
    assert mean_and_spread(values[:0])[1].tolist() == [0.0] * 4
    flat = values[1:, 1:2]
    assert same(robustaug.create("tabular.outliers", share=1, distance=1e9)(flat), flat)


@pytest.mark.parametrize("mechanism", ["completely_at_random", "at_random", "not_at_random"])
def test_the_mechanism_of_missing_values(mechanism):
    z = torch.randn(40000, 2, generator=torch.Generator().manual_seed(0))
    out = robustaug.create(f"tabular.missing_{mechanism}", share=0.2)(z)
    gone = out.isnan()
    high, low = z[:, 0] > 1, z[:, 0] < -1
    assert abs(float(gone[:, 1].double().mean()) - 0.2) < 0.01
    if mechanism == "completely_at_random":
        assert abs(float(gone[high, 1].double().mean()) - 0.2) < 0.02
    elif mechanism == "at_random":
        assert not gone[:, 0].any()  # the driver stays
        assert gone[high, 1].double().mean() > 5 * gone[low, 1].double().mean()
        level = z[:, 0].abs() < 0.2  # among alike drivers, the column's own value says nothing
        assert (
            abs(float(gone[level & (z[:, 1] > 0), 1].double().mean() - gone[level & (z[:, 1] < 0), 1].double().mean()))
            < 0.03
        )
    else:
        assert gone[z[:, 1] > 1, 1].double().mean() > 5 * gone[z[:, 1] < -1, 1].double().mean()
        assert abs(float(gone[high, 1].double().mean() - gone[low, 1].double().mean())) < 0.02


def test_numbers_written_down_wrongly():
    table = numbers()
    create = robustaug.create
    assert torch.allclose(create("tabular.unit_error", share=1, factor=[1000])(table), table * 1000)
    assert same(create("tabular.sign_error", share=1)(table), -table)
    rounded = create("tabular.rounding", digits=2)(torch.tensor([[123.4, 0.04567, -98.6, 0.0]], dtype=torch.float64))
    assert torch.allclose(rounded, torch.tensor([[120, 0.046, -99, 0]], dtype=torch.float64))
    spread, mean = table.double().std(0, correction=0), table.double().mean(0)
    off = create("tabular.outliers", share=1, distance=6)(table.double()) - table
    assert torch.allclose(off.abs() / spread, torch.tensor(6.0).double())
    assert 0.4 < (off > 0).double().mean() < 0.6
    scaled = create("tabular.scale_error", share=1, gain=1.1, offset=0.5)(table.double())
    assert torch.allclose(scaled, (table - mean) * 1.1 + mean + 0.5 * spread, rtol=1e-4)
    noise = create("tabular.noise", sigma=0.3)(table.double()) - table
    assert torch.allclose(noise.std(0) / spread, torch.tensor(0.3).double(), rtol=0.15)
    hit = create("tabular.unit_error", share=0.3, factor=1000)(table)
    assert abs(changed(hit, table) - 0.3) < 0.03


def test_categories(frame):
    swapped = robustaug.create("tabular.swap_category", share=1, columns=["job", "member"])(frame)
    assert (swapped["job"] != frame["job"]).all()
    assert set(swapped["job"]) == set(frame["job"])
    assert (swapped["member"] != frame["member"]).all()
    assert swapped["member"].dtype == bool
    unseen = robustaug.create("tabular.unseen_category", share=1, columns=["sex"])(frame)
    assert unseen["sex"].dtype == "category"
    assert set(unseen["sex"]) == {"unseen category"}


def test_columns(frame):
    moved = robustaug.create("tabular.permute_columns", share=1)(frame[["age", "income"]].astype(float))
    assert (moved["age"].to_numpy() == frame["income"].to_numpy()).all()
    stale = robustaug.create("tabular.stale_column", share=1, columns=["age"])(frame)
    assert (stale["age"] == frame["age"].iloc[0]).all()
    shuffled = robustaug.create("tabular.permute_values", share=1)(frame)
    for column in ("age", "income", "job"):
        assert sorted(shuffled[column]) == sorted(frame[column])
        assert (shuffled[column] != frame[column]).any()


def test_covariate_shift_moves_the_mean_by_its_strength():
    z = torch.randn(40000, 2, generator=torch.Generator().manual_seed(0))
    out = robustaug.create("tabular.covariate_shift", strength=0.8, column=0)(z)
    assert abs(float(out[:, 0].mean()) - 0.8) < 0.05
    assert abs(float(out[:, 1].mean())) < 0.05
    weights = robustaug.create("tabular.covariate_shift", strength=0.8, column=0).weights(z)
    assert float(weights.mean()) == pytest.approx(1)
    assert abs(float((weights * z[:, 0]).mean()) - 0.8) < 0.05


def test_label_shift_changes_the_classes_and_not_what_they_look_like(frame):
    big = pd.concat([frame] * 50, ignore_index=True)
    out = robustaug.create("tabular.label_shift", column="label", target=1, strength=0.5)(big)
    share = (frame["label"] == "yes").mean()
    assert abs((out["label"] == "yes").mean() - (share + 0.5 * (1 - share))) < 0.01
    for label in ("yes", "no"):
        before, after = big[big["label"] == label], out[out["label"] == label]
        assert abs(before["age"].mean() - after["age"].mean()) < 1
        assert abs((before["job"] == "cook").mean() - (after["job"] == "cook").mean()) < 0.03


def test_prior_shift_draws_priors_from_a_dirichlet():
    label = torch.arange(3000).remainder(3).double()
    table = torch.stack([torch.zeros(3000).double(), label], dim=1)
    for alpha, wide in ((1e5, 0.002), (1.0, 1 / 18)):  # a component's variance is 2/9 / (3 alpha + 1)
        firsts = []
        for seed in range(60):
            out = robustaug.create("tabular.prior_shift", alpha=alpha, column=1)(table, seed=seed)
            firsts.append(float((out[:, 1] == 0).double().mean()))
        assert abs(np.mean(firsts) - 1 / 3) < 0.1
        assert np.var(firsts) == pytest.approx(wide, abs=0.02)


def test_a_fitted_operator_measures_there_and_refuses_another_table(frame):
    fitted = robustaug.create("tabular.outliers", share=1, distance=5).fit(frame)
    one = fitted(frame.iloc[:1])
    assert abs(one["income"].iloc[0] - frame["income"].iloc[0]) == pytest.approx(5 * frame["income"].std(ddof=0))
    with pytest.raises(ValueError, match="was fitted to a table with the columns"):
        fitted(frame[["age"]])


def test_missing_labels_are_refused(frame):
    gap = frame.copy()
    gap.loc["row3", "label"] = None
    with pytest.raises(ValueError, match="1 rows of label 'label' are missing"):
        robustaug.create("tabular.label_shift", column="label")(gap)

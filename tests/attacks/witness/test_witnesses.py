"""A file of witnesses is somebody's claim: what holds is confirmed, what does not is counted by reason."""

import copy
import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import robustaug
from robustaug.attacks import witness
from robustaug.attacks.driver import labels_of
from robustaug.attacks.witness import METADATA_KEY, check, gather, read, write
from robustaug.models.fingerprint import model_fingerprint
from robustaug.rng import Keys

N = 40


@pytest.fixture(scope="module")
def source():
    return robustaug.create("data.digits", split="test")


@pytest.fixture(scope="module")
def data(source):
    batch, _ = source.fetch(range(3, 3 + N))
    return batch.image.float() / 255, batch.label, batch.index


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(0)
    x, y, _ = data
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net.eval()


def made(model, source, data, name="attack.pgd", mask=None, target=None, **params):
    x, y, index = data
    attack = robustaug.create(name, **{"eps": 0.25} | params)
    keys = Keys.of(0, index)
    if attack.targeted:
        target = labels_of(attack, y, target, keys, 10)
    result = attack(model, x, y, keys, target=target, mask=mask)
    return gather(result, attack, model, x, y, target=target, mask=mask, index=index, data=source.fingerprint), result


@pytest.fixture
def claim(model, source, data):
    return made(model, source, data)[0]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"norm": "L2", "eps": 1.5},
        {"targeted": True, "eps": 0.5},
        {"box": (torch.zeros(1, 8, 8), torch.full((1, 8, 8), 1.5))},
        {"mask": torch.arange(64).reshape(1, 8, 8) % 2 == 0, "eps": 0.6},
    ],
    ids=["Linf", "L2", "targeted", "box", "mask"],
)
def test_what_an_attack_broke_holds_when_it_is_read_back(model, source, data, tmp_path, params):
    witnesses, result = made(model, source, data, **params)
    assert 3 < len(witnesses) == int((result.success & result.verified).sum())
    path = tmp_path / "found.safetensors"
    write(path, witnesses)
    back = read(path)
    assert back.claim == witnesses.claim
    for key in ("clean", "points", "index", "label", "eps", "low", "high", "target", "mask"):
        one, other = getattr(witnesses, key), getattr(back, key)
        assert (one is None and other is None) or torch.equal(one, other), key
    for given in (source, None):
        checked = check(path, model, given)
        assert checked.holds.all()
        assert checked.faults == {}
    assert checked.notes == [
        "No data was given: that the clean samples and their classes are the data's is the file's word."
    ]
    assert check(path, model, source).notes == []


def test_the_claim_says_what_it_is_about(claim, model, source):
    assert claim.claim.norm == "Linf"
    assert claim.claim.attacked == N
    assert claim.claim.attack == {"attack.pgd": {"eps": 0.25}}
    assert claim.claim.model == model_fingerprint(model)
    assert claim.claim.data == source.fingerprint
    assert claim.claim.version == robustaug.__version__


def test_samples_that_were_wrong_before_are_counted(model, source, data):
    x, y, index = data
    wrong = torch.where(torch.arange(N) < 5, (y + 1) % 10, y)
    witnesses, _ = made(model, source, (x, wrong, index), eps=0.0)
    assert check(witnesses, model).wrong_before == len(witnesses) == 5
    faults = check(witnesses, model, source).faults
    assert int(faults["its true class is not the data's"].sum()) == 5


def spoil(claim, key, change):
    value = getattr(claim, key).clone()
    change(value)
    return replace(claim, **{key: value})


@pytest.mark.parametrize(
    ("key", "change", "reason", "rows"),
    [
        ("points", lambda v: v[0].add_(0.5).clamp_(max=1), "its norm is above eps", [0]),
        ("eps", lambda v: v[2:4].mul_(0.999), "its norm is above eps", [2, 3]),
        ("points", lambda v: v[1, 0, 0, 0].fill_(-0.01), "it leaves the box", [1]),
        ("label", lambda v: v[0].fill_(10), "the model has no such class", [0]),
        ("index", lambda v: v[0].copy_(v[1]), "its sample is given more than once", [0, 1]),
        ("index", lambda v: v[0].fill_(1 << 40), "the data has no sample of its index", [0]),
        ("clean", lambda v: v[0, 0, 0].add_(1e-4), "its clean sample is not the data's", [0]),
        ("clean", lambda v: v[4].fill_(0.5), "its clean sample is not the data's", [4]),
        ("label", lambda v: v[2].copy_((v[2] + 1) % 10), "its true class is not the data's", [2]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_tampered_with_does_not_hold(claim, model, source, key, change, reason, rows):
    checked = check(spoil(claim, key, change), model, source)
    assert checked.faults[reason].nonzero()[:, 0].tolist() == rows
    assert (~checked.holds).nonzero()[:, 0].tolist() == rows


def test_a_point_that_fools_nobody_does_not_hold(claim, model, source):
    with torch.no_grad():
        right = (model(claim.clean).argmax(1) == claim.label).nonzero()[:, 0]
    honest = claim.points.clone()
    honest[right[0]] = claim.clean[right[0]]
    checked = check(replace(claim, points=honest), model, source)
    assert checked.faults.keys() == {"the model is not wrong there"}
    assert (~checked.holds).nonzero()[:, 0].tolist() == [int(right[0])]


def test_values_off_the_mask_and_targets_that_are_no_targets_do_not_hold(model, source, data):
    mask = torch.arange(64).reshape(1, 8, 8) % 2 == 0
    witnesses, _ = made(model, source, data, mask=mask, eps=0.6)
    wider = spoil(witnesses, "mask", lambda v: v[0].zero_())
    assert check(wider, model).faults["it changes values off the mask"].nonzero()[:, 0].tolist() == [0]
    witnesses, _ = made(model, source, data, targeted=True, eps=0.5)
    own = replace(witnesses, points=witnesses.clean, target=witnesses.label.clone())
    assert check(own, model).faults["its target is its own class"].all()


def test_another_model_or_other_data_is_said(claim, model, source):
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    checked = check(claim, other, source.subset(range(100)))
    assert ["other weights" in checked.notes[0], "other data" in checked.notes[1]] == [True, True]
    wide = robustaug.create("data.synthetic", size=16, channels=1, n=4)
    with pytest.raises(ValueError, match=r"samples have shape \(1, 8, 8\), those of"):
        check(claim, model, wide)


def test_a_model_of_another_kind_is_refused(claim):
    wide = nn.Sequential(nn.Flatten(), nn.Linear(49, 10)).eval()
    with pytest.raises(ValueError, match=r"cannot be asked about the witnesses' samples of shape \(1, 8, 8\)"):
        check(claim, wide)
    with pytest.raises(ValueError, match=r"type torch\.float32"):
        check(claim, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double().eval())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_witnesses_are_checked_where_the_model_is(claim, model, source):
    checked = check(claim, copy.deepcopy(model).cuda(), source)
    assert checked.holds.all()
    assert not checked.holds.is_cuda


def test_the_model_is_asked_in_full_precision_at_other_batch_sizes(claim, model):
    asked = []

    class Watched(nn.Module):
        def forward(self, x):
            asked.append((len(x), torch.is_autocast_enabled("cpu")))
            return model(x)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        check(claim, Watched().eval())
    n = len(claim)
    assert not {size for size, _ in asked} & {n, (n + 1) // 2}
    assert not any(reduced for _, reduced in asked)


def test_nothing_broken_is_a_claim_too(model, source, data, tmp_path):
    x, y, index = data
    witnesses, _ = made(model, source, (x, y, index), eps=0.0)
    witnesses = replace(
        witnesses, **{key: getattr(witnesses, key)[:0] for key in ("clean", "points", "index", "label", "eps")}
    )
    write(tmp_path / "none.safetensors", witnesses)
    assert check(tmp_path / "none.safetensors", model, source).holds.shape == (0,)


# --- points that were made from parameters ---

TURNED = {"name": "attack.worst_case", "operator": {"image.rotate": {"angle_deg": [-60, 60]}}}
SEARCHES = {
    "worst_case": TURNED,
    "spatial": {"name": "attack.spatial", "counts": {"angle_deg": 7, "x": 3, "y": 3}},
    "drawn": {"name": "attack.worst_case", "operator": {"image.gaussian_noise": {"sigma": [0.3, 0.6]}}},
    "combined": {
        "name": "attack.worst_case",
        "operator": {"compose.one_of": {"of": ["image.rotate", {"image.brightness": {"factor": [0.1, 0.4]}}]}},
    },
    "policy": {"name": "attack.worst_case", "operator": "policy.trivial_augment_wide"},
    "list": {"name": "attack.worst_case", "operator": [{"image.rotate": {"angle_deg": [-60, 60]}}, "image.contrast"]},
    "flow": {"name": "attack.flow", "reach": 1.5},
    "colour": {"name": "attack.colour", "reach": 0.5},
    "ensemble": {
        "name": "attack.ensemble",
        "eps": 0.9,
        "attacks": [
            {"attack.pgd": {"steps": 1, "step_size": 0.02}},
            {"attack.worst_case": {key: value for key, value in TURNED.items() if key != "name"}},
        ],
    },
}


@pytest.fixture(params=SEARCHES)
def searched(model, source, data, tmp_path, request):
    """What an attack on parameters broke, read back from its file."""
    params = {"eps": None} | SEARCHES[request.param]
    witnesses, result = made(model, source, data, **params)
    write(tmp_path / "s.safetensors", witnesses)
    back = read(tmp_path / "s.safetensors")
    assert back.params.keys() == result.params.keys() != set()
    assert all(torch.equal(back.params[key], witnesses.params[key]) for key in back.params)
    assert torch.equal(back.by, witnesses.by)
    return back


def moved_by_parameters(witnesses):
    moved = (witnesses.points != witnesses.clean).flatten(1).any(1)
    if len(witnesses.claim.attack.get("attack.ensemble", {})):
        moved &= witnesses.by == 1
    return moved


def test_points_are_made_again_from_their_parameters(searched, model, source):
    checked = check(searched, model, source)
    assert checked.holds.all()
    own = moved_by_parameters(searched)
    assert own.sum() > 1
    endless = int((searched.eps.isinf() & ~own).sum())
    starts = [f"{endless:,} witnesses claim no limit"] if endless else []
    assert [note[: len(start)] for note, start in zip(checked.notes, starts, strict=True)] == starts


def test_parameters_or_points_that_were_tampered_with_do_not_hold(searched, model):
    own = moved_by_parameters(searched).nonzero()[:, 0]
    row = int(own[0])

    def faulty(**changes):
        found = check(replace(searched, **changes), model).faults.get("its parameters do not make it")
        return [] if found is None else found.nonzero()[:, 0].tolist()

    points = searched.points.clone()
    points[row] = (points[row] + 2e-3 * (points[row] < 0.5)).clamp(0, 1)
    assert faulty(points=points) == [row]
    for key, value in searched.params.items():
        if value.is_floating_point() and "sigma" not in key:
            other = value.clone()
            other[row] = other[row] * 0.5 + 0.01
            assert faulty(params=searched.params | {key: other}) == [row]
            other[row] = 1e4
            assert faulty(params=searched.params | {key: other}) == [row], "outside what is allowed"
    assert faulty(params={}) == own.tolist()


def test_only_what_is_ours_is_made_from_a_claim(searched, model):
    own = moved_by_parameters(searched)
    for attack in (
        {"torchattacks.PGD": {}},
        {"attack.worst_case": {"operator": {"policy.searched": {"path": "x"}}}},
        {"attack.worst_case": {"operator": {"albumentations.RandomFog": {}}}},
        {"attack.worst_case": {"operator": 3}},
        {"attack.worst_case": {"operator": ["image.rotate", "albumentations.RandomFog"]}},
        {"attack.worst_case": {"operator": {"compose.one_of": {"of": ["image.rotate", "torchvision.ColorJitter"]}}}},
        {"attack.worst_case": {"operator": {"policy.search": {}}}},
        {"attack.ensemble": {"attacks": [[]]}},
        {"attack.nothing": {}},
        {},
    ):
        checked = check(replace(searched, claim=searched.claim._replace(attack=attack)), model)
        assert not checked.holds[own].any(), attack
        assert any("could not be replayed" in note for note in checked.notes), attack


def test_how_an_attack_searched_is_not_read_from_its_claim(model, source, data):
    witnesses, _ = made(model, source, data, eps=None, **TURNED)
    params = witnesses.claim.attack["attack.worst_case"]
    endless = {"attack.worst_case": params | {"tries": 10**12, "search": "grid", "more": 1}}
    assert check(replace(witnesses, claim=witnesses.claim._replace(attack=endless)), model).holds.all()


def test_parameters_of_another_attack_are_refused(model, source, data):
    witnesses, _ = made(model, source, data, eps=None, name="attack.flow")
    with pytest.raises(ValueError, match=r"attack\.flow: the witnesses' parameters do not fit it"):
        check(replace(witnesses, params={"curve": witnesses.params["flow"]}), model)


# --- files that cannot be trusted ---


def rewritten(path, tensors=None, metadata=None, drop=()):
    """Write the file anew with some tensors or metadata replaced."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))["__metadata__"]
    kept = {key: value for key, value in load_file(path).items() if key not in drop}
    if metadata is not None:
        header = {METADATA_KEY: metadata if isinstance(metadata, str) else json.dumps(metadata)}
    save_file(kept | (tensors or {}), path, header)
    return path


@pytest.fixture
def file(claim, tmp_path):
    write(tmp_path / "w.safetensors", claim)
    return tmp_path / "w.safetensors"


def about(claim, **changes):
    return {"format": 1} | claim.claim._asdict() | changes


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"points": torch.full((5, 1, 8, 8), torch.nan)}, "points has shape|clean has shape"),
        ({"eps": torch.zeros(3, dtype=torch.float64)}, r"eps has shape \(3,\), which does not fit"),
        ({"label": torch.zeros(2, dtype=torch.int32)}, "label must be I64, got I32"),
        ({"index": torch.zeros(2)}, "index must be I64, got F32"),
        ({"low": torch.zeros(7, dtype=torch.float64)}, "low has shape"),
        ({"low": torch.tensor(2.0, dtype=torch.float64)}, "low must be below high"),
        ({"extra": torch.zeros(1)}, "must hold the tensors clean, points"),
        ({"params.angle_deg": torch.zeros(3)}, r"params\.angle_deg has shape \(3,\), which does not fit"),
        ({"params.angle_deg": torch.zeros(3, dtype=torch.float16)}, r"params\.angle_deg must be BOOL or F32"),
        ({f"params.{k}": torch.zeros(1) for k in range(65)}, "must hold the tensors clean, points"),
        ({"mask": torch.zeros(100, 1, 8, 8, dtype=torch.bool)}, "mask has shape"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_tensors_that_do_not_fit_are_refused(file, tensors, message):
    with pytest.raises(ValueError, match=message):
        read(rewritten(file, tensors))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("points", torch.nan, "points must be finite"),
        ("clean", torch.inf, "clean must be finite"),
        ("eps", torch.nan, "eps must be >= 0"),
        ("eps", -1.0, "eps must be >= 0"),
        ("label", -1, "label must be >= 0, got -1"),
        ("index", -5, "index must be >= 0, got -5"),
    ],
)
def test_values_that_cannot_be_are_refused(file, key, value, message):
    tensors = load_file(file)
    tensors[key].view(-1)[0] = value
    with pytest.raises(ValueError, match=message):
        read(rewritten(file, tensors))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("{ broken", "is not JSON"),
        ("[" * 50_000, "is not JSON"),
        ('"x' + "y" * (1 << 16) + '"', "characters, more than"),
        ("[]", "its format must be 1"),
        ('{"format": 2}', "its format must be 1"),
        ('{"format": 1}', "its metadata must hold norm, attacked"),
    ],
)
def test_metadata_that_is_foreign_is_refused(file, metadata, message):
    with pytest.raises(ValueError, match=message):
        read(rewritten(file, metadata=metadata))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "L7"}, "norm must be one of Linf, L2, L1, L0, got 'L7'"),
        ({"norm": 3}, "norm must be of type str"),
        ({"attacked": -1}, "attacked must be >= 0"),
        ({"attacked": True}, "attacked must be of type int"),
        ({"attack": []}, "attack must be of type dict"),
        ({"more": 1}, "its metadata must hold"),
    ],
)
def test_metadata_of_wrong_kinds_is_refused(file, claim, changes, message):
    with pytest.raises(ValueError, match=message):
        read(rewritten(file, metadata=about(claim, **changes)))


def test_files_that_are_damaged_missing_or_of_another_kind_are_refused(file, tmp_path, model):
    whole = file.read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="no readable file of witnesses"):
            read(file)
    file.write_bytes(struct.pack("<Q", 1 << 62) + whole[8:])
    with pytest.raises(ValueError, match="no readable file of witnesses"):
        read(file)
    save_file({"w": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="is no file of witnesses: its header has no"):
        read(file)
    with pytest.raises(FileNotFoundError, match="no witnesses at"):
        read(tmp_path / "nothing.safetensors")
    with pytest.raises(FileNotFoundError, match="no witnesses at"):
        read(tmp_path)


def test_a_missing_tensor_is_refused(file):
    with pytest.raises(ValueError, match="must hold the tensors"):
        read(rewritten(file, drop=("label",)))


def test_bytes_of_a_mask_that_are_neither_0_nor_1_count_as_true(model, source, data, tmp_path):
    mask = torch.arange(64).reshape(1, 8, 8) % 2 == 0
    witnesses, _ = made(model, source, data, mask=mask, eps=0.6)
    path = tmp_path / "m.safetensors"
    write(path, witnesses)
    content = bytearray(path.read_bytes())
    (size,) = struct.unpack("<Q", content[:8])
    start, end = json.loads(content[8 : 8 + size])["mask"]["data_offsets"]
    for at in range(8 + size + start, 8 + size + end):
        content[at] *= 7
    path.write_bytes(content)
    assert torch.equal(read(path).mask, witnesses.mask)


def test_what_cannot_be_written_is_refused(claim, tmp_path, model, source, data):
    with pytest.raises(ValueError, match=r"written as \.safetensors, got 'w\.pt'"):
        write(tmp_path / "w.pt", claim)
    x, y, _ = data
    attack = robustaug.create("attack.pgd", targeted=True)
    with pytest.raises(ValueError, match="need target"):
        gather(attack(model, x, y), attack, model, x, y)


def test_nothing_of_the_file_is_pickled(file):
    assert witness.read(file).claim.norm == "Linf"
    assert b"pickle" not in file.read_bytes()


def test_each_sample_may_have_its_own_budget_and_no_limit_is_said(model, source, data):
    x, y, index = data
    eps = torch.linspace(0.1, 0.4, N, dtype=torch.float64)
    attack = robustaug.create("attack.pgd")
    result = attack(model, x, y, eps=eps)
    witnesses = gather(result, attack, model, x, y, eps=eps, index=index, data=source.fingerprint)
    assert torch.equal(witnesses.eps, eps[result.success & result.verified])
    assert check(witnesses, model, source).holds.all()
    endless = replace(witnesses, eps=torch.full_like(witnesses.eps, torch.inf))
    [note] = check(endless, model, source).notes
    assert note.startswith(f"{len(witnesses)} witnesses claim no limit on the change")

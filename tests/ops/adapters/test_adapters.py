"""Other libraries' transforms by name: the library's result, our keys."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import robustaug
from robustaug.drawn_params import load_params, save_params
from robustaug.ops.adapters import for_albumentations, for_torchvision
from robustaug.ops.adapters.albumentations import library
from robustaug.ops.targets import Targets, draw_with_targets
from robustaug.pipeline import Pipeline
from robustaug.rng import Keys, torch_seed

try:
    A = library()
except ImportError as missing:
    pytest.skip(str(missing), allow_module_level=True)

TORCHVISION = {
    "AutoAugment": {},
    "AugMix": {},
    "ColorJitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "ElasticTransform": {},
    "GaussianBlur": {"kernel_size": 3},
    "GaussianNoise": {},
    "JPEG": {"quality": [20, 50]},
    "RandAugment": {},
    "RandomAdjustSharpness": {"sharpness_factor": 2, "p": 1.0},
    "RandomAffine": {"degrees": 20, "interpolation": "bilinear"},
    "RandomChannelPermutation": {},
    "RandomErasing": {"p": 1.0},
    "RandomHorizontalFlip": {},
    "RandomPerspective": {"p": 1.0},
    "RandomPhotometricDistort": {},
    "RandomPosterize": {"bits": 3},
    "RandomResizedCrop": {"size": 24},
    "RandomRotation": {"degrees": 30},
    "TrivialAugmentWide": {},
}
ALBUMENTATIONS = {
    "CLAHE": {},
    "CoarseDropout": {},
    "ColorJitter": {},
    "ElasticTransform": {},
    "GaussNoise": {},
    "GlassBlur": {"p": 1.0},
    "GridDistortion": {},
    "HorizontalFlip": {},
    "ISONoise": {},
    "ImageCompression": {"quality_range": [20, 40], "p": 1.0},
    "MotionBlur": {},
    "OpticalDistortion": {},
    "Posterize": {},
    "RandomBrightnessContrast": {},
    "RandomFog": {"p": 1.0},
    "RandomRain": {},
    "RandomShadow": {},
    "RandomSnow": {},
    "RandomSunFlare": {},
    "Rotate": {"limit": 30},
    "Affine": {},
    "Spatter": {},
    "ToGray": {},
}
ALL = [(f"torchvision.{name}", params) for name, params in TORCHVISION.items()]
ALL += [(f"albumentations.{name}", params) for name, params in ALBUMENTATIONS.items()]
every = pytest.mark.parametrize(("name", "params"), ALL, ids=[name for name, _ in ALL])


@pytest.fixture(scope="module")
def images():
    """(6, 3, 32, 32) uint8: crops of a photograph."""
    picture = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    crops = [picture[:, 40 * at : 40 * at + 96, 80 * at : 80 * at + 96] for at in range(6)]
    return torch.stack([torch.nn.functional.avg_pool2d(crop.float(), 3).round().to(torch.uint8) for crop in crops])


@every
def test_a_sample_gets_the_same_whatever_the_batch_the_order_and_the_global_state(name, params, images):
    operator = robustaug.create(name, **params)
    torch.manual_seed(0)
    whole = operator(images, seed=1)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    rows = torch.tensor([4, 0, 2])
    assert torch.equal(operator(images[rows], seed=1, index=rows), whole[rows])
    assert torch.equal(before, torch.random.get_rng_state())
    assert whole.dtype == torch.uint8
    assert operator(images.float() / 255, seed=1).dtype == torch.float32


@every
def test_written_down_and_read_back_it_is_the_same(name, params, images, tmp_path):
    operator = robustaug.create(name, **params)
    whole = operator(images, seed=3)
    assert torch.equal(eval(repr(operator), {"robustaug": robustaug})(images, seed=3), whole)
    assert torch.equal(pickle.loads(pickle.dumps(operator))(images, seed=3), whole)
    pipeline = Pipeline([operator])
    assert torch.equal(Pipeline.from_yaml(pipeline.to_yaml())(images, seed=3), pipeline(images, seed=3))
    save_params(tmp_path / "p.safetensors", operator.sample(Keys.of(3, 6)))
    assert torch.equal(operator.apply(images, load_params(tmp_path / "p.safetensors")), whole)


@pytest.mark.parametrize("name", ["RandomAffine", "ColorJitter", "RandomPerspective", "TrivialAugmentWide"])
def test_the_result_is_torchvisions_own(name, images):
    params = {key: value for key, value in TORCHVISION[name].items() if key != "interpolation"}
    operator = robustaug.create(f"torchvision.{name}", **params)
    drawn = operator.sample(Keys.of(7, 6))
    ours = operator.apply(images.float() / 255, drawn)
    theirs = getattr(v2, name)(**params)
    for image, seed, out in zip(images.float() / 255, drawn["seed"].tolist(), ours, strict=True):
        with torch_seed(seed):
            torch.testing.assert_close(out, theirs(image).clamp(0, 1), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["RandomFog", "GlassBlur", "ImageCompression"])
def test_the_result_is_albumentations_own(name, images):
    operator = robustaug.create(f"albumentations.{name}", **ALBUMENTATIONS[name])
    drawn = operator.sample(Keys.of(7, 6))
    ours = operator.apply(images, drawn)
    theirs = getattr(A, name)(**ALBUMENTATIONS[name])
    for image, seed, out in zip(images, drawn["seed"].tolist(), ours, strict=True):
        theirs.set_random_seed(seed)
        np.testing.assert_array_equal(out.permute(1, 2, 0), theirs(image=image.permute(1, 2, 0).numpy())["image"])


@pytest.mark.parametrize("name", ["torchvision.RandomHorizontalFlip", "albumentations.HorizontalFlip"])
def test_the_librarys_chance_is_ours(name):
    ramp = torch.linspace(0, 1, 4).expand(2000, 1, 4, 4)
    flipped = (robustaug.create(name)(ramp)[:, 0, 0, 0] == 1).float().mean()
    assert 0.45 < flipped < 0.55
    assert (robustaug.create(name, p=1.0)(ramp)[:, 0, 0, 0] == 1).all()
    assert torch.equal(robustaug.create(name, p=0.0)(ramp), ramp)
    assert "p" not in robustaug.create(name).spec()[name]


def test_foreign_and_native_stand_side_by_side(images):
    text = """
    - image.rotate
    - albumentations.RandomFog: {p: 1.0}
    - compose.one_of: {of: [torchvision.TrivialAugmentWide, image.gaussian_noise]}
    """
    pipeline = Pipeline.from_yaml(text)
    assert Pipeline.from_yaml(pipeline.to_yaml()) == pipeline
    rows = torch.tensor([5, 1])
    assert torch.equal(pipeline(images)[rows], pipeline(images[rows], index=rows))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            {"torchvision.RandomAfine": {}},
            "torchvision has no image transform 'RandomAfine'; did you mean '",
        ),
        (
            {"albumentations.RandomFogg": {}},
            "albumentations has no image transform 'RandomFogg'; did you ",
        ),
        ({"torchvision.Compose": {}}, r"torchvision\.Compose cannot be used as an operator; use compose\.sequential"),
        ({"torchvision.RandomRotation": {"degres": 3}}, r"has no parameter 'degres'; did you mean 'degrees'\?"),
        ({"torchvision.RandomRotation": {"degrees": "x"}}, r"torchvision\.RandomRotation: "),
        ({"torchvision.RandomRotation": {}}, r"torchvision\.RandomRotation: "),
        ({"albumentations.RandomFog": {"alpha_coef": 7}}, r"albumentations\.RandomFog: .*alpha_coef"),
        ({"albumentations.Rotate": {"limits": 7}}, r"has no parameter 'limits'; did you mean 'limit'"),
        ({"torchvision.RandomRotation": {"degrees": 3, "p": 2}}, r"p must be in \[0, 1\], got 2"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        robustaug.Pipeline([make])


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("torchvision.Normalize", {"mean": [0.5] * 3, "std": [0.1] * 3}, "normalise after the pipeline"),
        ("torchvision.ToPILImage", {}, "returns Image; a pipeline takes transforms from image to image"),
        ("torchvision.CutMix", {"num_classes": 3}, r"torchvision\.CutMix on an image of shape \(3, 32, 32\): "),
        ("albumentations.HueSaturationValue", {"p": 1.0}, r"on an image of shape \(5, 32, 32\)"),
    ],
)
def test_what_gives_no_image_is_named(name, params, message, images):
    operator = robustaug.create(name, **params)
    given = images if name.startswith("torchvision") else images[:, [0, 1, 2, 0, 1]]
    with pytest.raises(ValueError, match=message):
        operator(given)


def test_a_size_that_differs_by_sample_is_refused(images):
    operator = robustaug.create("torchvision.RandomResize", min_size=10, max_size=40)
    with pytest.raises(ValueError, match=r"torchvision\.RandomResize gives images of different sizes"):
        operator(images)


def test_without_albumentations_the_fix_is_said(monkeypatch):
    import sys

    from robustaug.ops.adapters import albumentations

    albumentations.entry.cache_clear()
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(ImportError, match=r"albumentations\.\* needs albumentations: pip install 'robustaug\[alb"):
        robustaug.create("albumentations.RandomFog")


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("torchvision.RandomRotation", {"degrees": 30}),
        ("torchvision.TrivialAugmentWide", {}),
        ("albumentations.GridDistortion", {"p": 1.0}),
    ],
)
def test_targets_are_refused_where_another_library_moves_pixels(name, params, images):
    pipeline = Pipeline(["image.invert", {name: params}])
    message = rf"{name} does not say where it moves pixels, so masks, boxes and keypoints cannot follow; use an"
    for targets in (Targets(masks=torch.zeros(6, 32, 32)), Targets(keypoints=torch.zeros(6, 1, 2))):
        with pytest.raises(ValueError, match=message):
            draw_with_targets(pipeline, images, targets)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("torchvision.ColorJitter", {"hue": 0.2}),
        ("torchvision.RandomErasing", {"p": 1.0}),
        ("torchvision.GaussianNoise", {}),
        ("albumentations.RandomFog", {"p": 1.0}),
        ("albumentations.CoarseDropout", {"p": 1.0}),
    ],
)
def test_targets_stay_where_another_library_moves_nothing(name, params, images):
    points = torch.rand(6, 3, 2) * 31
    out = draw_with_targets(Pipeline([{name: params}]), images, Targets(keypoints=points))
    assert torch.equal(torch.as_tensor(out.targets.keypoints), points)


def test_ours_inside_torchvision_follows_torchs_generator(images):
    both = v2.Compose([v2.RandomHorizontalFlip(), for_torchvision(Pipeline(["image.gaussian_noise"]))])
    with torch_seed(5):
        first, second = both(images[0]), both(images[0])
    with torch_seed(5):
        assert torch.equal(both(images[0]), first)
    assert not torch.equal(first, second)
    assert both(images).shape == images.shape
    from torchvision import tv_tensors

    assert isinstance(both(tv_tensors.Image(images[0])), tv_tensors.Image)
    with pytest.raises(TypeError, match=r"got 0 images in a Image; put v2\.ToImage\(\) before it"):
        both(v2.ToPILImage()(images[0]))


def test_ours_inside_albumentations_follows_the_compositions_seed(images):
    def both():
        return A.Compose([A.HorizontalFlip(), for_albumentations(Pipeline(["image.gaussian_noise"]))], seed=3)

    pixels = images[0].permute(1, 2, 0).numpy()
    one, two = both(), both()
    first, second = (one(image=pixels)["image"] for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(two(image=pixels)["image"], first)
    assert first.dtype == np.uint8
    assert one(image=(pixels / 255).astype(np.float32))["image"].dtype == np.float32
    assert one(image=pixels[:, :, 0])["image"].shape == (32, 32)
    assert "image.gaussian_noise" in repr(one)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("image.horizontal_flip", A.HorizontalFlip(p=1)),
        ("image.transpose", A.Transpose(p=1)),
        ({"image.center_crop": {"size": [20, 24]}}, A.CenterCrop(20, 24, p=1)),
        ({"image.translate": {"x": 0.125, "y": -0.25}}, A.Affine(translate_px={"x": (5, 5), "y": (-8, -8)}, p=1)),
    ],
    ids=str,
)
def test_targets_travel_inside_albumentations_as_with_its_own(ours, theirs):
    random = np.random.default_rng(0)
    sample = {
        "image": random.integers(0, 256, (32, 40, 3), np.uint8),
        "mask": random.integers(0, 5, (32, 40), np.uint8),
        "masks": random.integers(0, 2, (2, 32, 40), np.uint8),
        "bboxes": np.array([[4, 3, 20, 17, 1], [10, 0, 40, 32, 2], [0, 24, 6, 32, 3]], np.float32),
        "keypoints": np.array([[5, 6], [30.5, 12], [20, 16]], np.float32),
    }
    forms = {
        "bbox_params": A.BboxParams("pascal_voc", min_visibility=0.5, label_fields=[]),
        "keypoint_params": A.KeypointParams("xy"),
    }
    [mine, other] = (A.Compose([t], **forms)(**sample) for t in (for_albumentations(Pipeline([ours])), theirs))
    for key in sample:
        assert other[key].shape == mine[key].shape, key
        np.testing.assert_allclose(mine[key], other[key], atol=1e-4, err_msg=key)


def test_a_pipeline_inside_albumentations_draws_once_for_image_and_targets():
    """A bright spot, its mask and its point stay together through what is random and no matrix."""
    image, mask = np.zeros((64, 64, 1), np.uint8), np.zeros((64, 64), np.uint8)
    image[30:35, 38:43] = mask[30:35, 38:43] = 255
    bend = for_albumentations(Pipeline(["image.elastic", "image.rotate", {"image.resize": {"size": 48}}]))
    both = A.Compose([bend], keypoint_params=A.KeypointParams("xy"), seed=1)
    places = set()
    for _ in range(4):
        out = both(image=image, mask=mask, keypoints=np.array([[40.0, 32.0]]))
        assert out["image"].shape == (48, 48, 1)
        x, y = np.argwhere(out["mask"] > 0).mean(0)[::-1]
        assert np.abs(out["keypoints"][0] - [x, y]).max() < 1
        assert out["image"][out["mask"] > 0].min() > 100
        places.add((round(x), round(y)))
    assert len(places) > 1


class Crops(torch.utils.data.Dataset):
    """Crops that go through a torchvision composition, as a user's data set does."""

    def __init__(self, images):
        self.images = images
        self.transform = v2.Compose([for_torchvision(Pipeline(["image.gaussian_noise"]))])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, at):
        return self.transform(self.images[at])


def test_ours_inside_a_data_loader_differs_by_worker_and_repeats_by_seed(images):
    same = images[:1].expand(4, -1, -1, -1)

    def once():
        generator = torch.Generator().manual_seed(1)
        return torch.cat([*DataLoader(Crops(same), batch_size=2, num_workers=2, generator=generator)])

    first = once()
    assert len(torch.unique(first, dim=0)) == 4
    assert torch.equal(once(), first)


def test_boxes_masks_and_keypoints_travel_through_a_v2_compose():
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    image = tv_tensors.Image(torch.arange(3 * 20 * 30).reshape(3, 20, 30).to(torch.uint8))
    sample = {
        "image": image,
        "target": (
            tv_tensors.BoundingBoxes(torch.tensor([[2, 3, 10, 8]]), format="XYWH", canvas_size=(20, 30)),
            tv_tensors.Mask(torch.arange(600).reshape(1, 20, 30)),
            tv_tensors.KeyPoints(torch.tensor([[2.0, 5.0]]), canvas_size=(20, 30)),
            7,
        ),
    }
    flip = for_torchvision(robustaug.create("image.horizontal_flip"))
    out = v2.Compose([flip])(sample)
    want = v2.RandomHorizontalFlip(p=1)(sample)
    assert torch.equal(out["image"], want["image"])
    assert isinstance(out["image"], tv_tensors.Image)
    for ours, theirs in zip(out["target"][:3], want["target"][:3], strict=True):
        assert type(ours) is type(theirs)
        assert torch.equal(ours.as_subclass(torch.Tensor), theirs.as_subclass(torch.Tensor))
    assert out["target"][0].format == sample["target"][0].format
    assert out["target"][3] == 7
    turned = v2.Compose([for_torchvision(robustaug.create("image.transpose"))])(sample)
    assert turned["image"].shape == (3, 30, 20)
    assert turned["target"][0].canvas_size == (30, 20)
    with pytest.raises(TypeError, match=r"one tv_tensors.Image, got 0 images"):
        flip({"image": "no"})

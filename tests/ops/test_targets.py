"""Masks, boxes and keypoints go where the pixels go."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as tv

import robustaug
from robustaug.ops.image.motion import Geometric, Warp
from robustaug.ops.image.resample import inverse, moved
from robustaug.ops.targets import Targets, apply_with_targets, draw_with_targets
from robustaug.pipeline import Pipeline
from robustaug.registry import lookup
from robustaug.rng import Keys

NAMES = robustaug.list(kind="operator", modality="image")
GEOMETRY = [name for name in NAMES if isinstance(robustaug.create(name), Geometric)]
MOVES = robustaug.create(
    "policy.sub_policies",
    table=[[["shear_x", 1, 0.8], ["rotate", 1, 0.5]], [["translate_y", 1, 0.4], ["shear_y", 0.5, 1]]],
)
EXACT = [name for name in GEOMETRY if not isinstance(robustaug.create(name), Warp) and name != "image.perspective"]
EVERYTHING = Pipeline(
    [
        {"image.rotate": {"angle_deg": 12, "p": 0.7}},
        {"compose.one_of": {"of": ["image.elastic", "image.horizontal_flip", "image.gamma"]}},
        {"compose.some_of": {"of": ["image.translate", "image.zoom", "image.perspective"], "n": [0, 3]}},
        {"image.crop": {"size": [56, 48]}},
        {"image.resized_crop": {"size": [50, 60], "area": [0.8, 1]}},
        {"image.resize": {"size": 64}},
    ]
)


def blobs(points: torch.Tensor, size: int, sigma: float = 1.5) -> torch.Tensor:
    """(B, 1, size, size): a bright spot at each sample's point (B, 2)."""
    at = torch.arange(size, dtype=torch.float64)
    x = torch.exp(-0.5 * ((at - points[:, :1]) / sigma) ** 2)
    y = torch.exp(-0.5 * ((at - points[:, 1:]) / sigma) ** 2)
    return (y[:, :, None] * x[:, None, :])[:, None]


def centroid(image: torch.Tensor) -> torch.Tensor:
    weight = image[:, 0].to(torch.float64)
    total = weight.sum((1, 2))
    x = (weight.sum(1) * torch.arange(weight.shape[2])).sum(1) / total
    y = (weight.sum(2) * torch.arange(weight.shape[1])).sum(1) / total
    return torch.stack([x, y], dim=1)


@pytest.mark.parametrize("name", [*GEOMETRY, "everything", "moves"])
def test_a_keypoint_lies_where_the_pixel_it_marks_went(name):
    operator = {"everything": EVERYTHING, "moves": MOVES}.get(name) or robustaug.create(name)
    # away from the borders of the cells of grid_shuffle, which cut a spot in two
    points = (
        torch.tensor([[24.0, 24.0], [40, 40], [24, 40], [40, 24]]).repeat(4, 1)
        if name == "image.grid_shuffle"
        else 20 + 24 * torch.rand(16, 2, generator=torch.Generator().manual_seed(0))
    )
    operator = robustaug.create(name, cells=4) if name == "image.grid_shuffle" else operator
    image = blobs(points.double(), 64)
    out = draw_with_targets(operator, image, Targets(keypoints=points[:, None]), seed=3)
    assert isinstance(out.targets.keypoints, torch.Tensor)
    there = out.targets.keypoints[:, 0]
    H, W = out.image.shape[-2:]
    whole = ((there > 6) & (there < torch.tensor([W - 7.0, H - 7.0]))).all(1)
    assert whole.sum() >= 4
    # a warp magnifies one side of a spot more than the other, which moves its centroid
    assert (centroid(out.image) - there)[whole].abs().max() < (0.1 if name in EXACT else 1.5)


@pytest.mark.parametrize("name", [*GEOMETRY, "everything", "moves"])
def test_a_mask_is_the_image_read_at_the_nearest_pixel(name):
    operator = {"everything": EVERYTHING, "moves": MOVES}.get(name) or robustaug.create(name)
    masks = torch.zeros(6, 64, 64, dtype=torch.int64)
    masks[:, 10:40, 20:50] = 1
    image = masks[:, None].float()
    out = draw_with_targets(operator, image, Targets(masks=masks), seed=1)
    assert out.targets.masks is not None
    assert out.targets.masks.dtype == torch.int64
    assert out.targets.masks.shape[-2:] == out.image.shape[-2:]
    clear = (out.image[:, 0] < 0.02) | (out.image[:, 0] > 0.98)  # where interpolation leaves no doubt
    assert clear.float().mean() > 0.8
    wrong = (out.targets.masks != out.image[:, 0].round()) & clear
    assert wrong.float().mean() < 2e-3


@pytest.mark.parametrize("name", GEOMETRY)
def test_carry_is_the_inverse_of_trace(name):
    operator = robustaug.create(name)
    params = operator.sample(Keys.of(2, 5))
    points = 8 + 16 * torch.rand(5, 20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    back = operator.trace(operator.carry(points, (32, 32), params), (32, 32), params)
    known = ~back.isnan().any(-1)
    assert known.float().mean() > 0.5
    assert (back - points)[known].abs().max() < (1e-3 if isinstance(operator, Warp) else 1e-9)


def test_a_pipeline_of_matrices_is_their_product_to_the_last_digit():
    pipeline = Pipeline(["image.rotate", "image.perspective", "image.shear"])
    params = pipeline.sample(Keys.of(0, 3))
    product = None
    for position, child in enumerate(pipeline.children):
        matrix = child.matrix((40, 50), **params[str(position)])
        product = matrix if product is None else product @ matrix
    points = 40 * torch.rand(3, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert (pipeline.carry(points, (40, 50), params) - moved(points, inverse(product))).abs().max() < 1e-9


@pytest.mark.parametrize("name", [n for n in NAMES if n not in GEOMETRY and "policy" not in lookup(n).tags])
def test_what_moves_no_pixel_leaves_targets_alone(name):
    masks = torch.randint(0, 5, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    boxes, points = [torch.tensor([[1.0, 2, 8, 9]]), torch.zeros(0, 4)], torch.rand(2, 4, 2) * 15
    out = draw_with_targets(robustaug.create(name), torch.rand(2, 3, 16, 16), Targets(masks, boxes, points))
    assert out.targets.masks is not None
    assert torch.equal(out.targets.masks, masks)
    assert all(torch.equal(a, b) for a, b in zip(out.targets.boxes or (), boxes, strict=True))
    assert torch.equal(torch.as_tensor(out.targets.keypoints), points)


BOX = torch.tensor([[[4.0, 6, 20, 18], [0, 0, 40, 30]]])
SHARED = [
    ("image.horizontal_flip", {}, tv.horizontal_flip),
    ("image.vertical_flip", {}, tv.vertical_flip),
    ("image.resize", {"size": [60, 20]}, lambda b: tv.resize(b, [60, 20])),
    (
        "image.resized_crop",
        {"size": [24, 60], "area": 0.25, "aspect": 1, "x": 0.5, "y": 1},
        lambda b: tv.resized_crop(b, top=15, left=10, height=15, width=20, size=[24, 60]),
    ),
    ("image.pad", {"size": [40, 50]}, lambda b: tv.pad(b, [5, 5, 5, 5])),
    ("image.center_crop", {"size": [20, 30]}, lambda b: tv.center_crop(b, [20, 30])),
    ("image.translate", {"x": 0.1, "y": -0.1}, lambda b: tv.affine(b, 0.0, [4.0, -3.0], 1.0, [0.0, 0.0])),
    ("image.rotate", {"angle_deg": 30}, lambda b: tv.rotate(b, 30.0)),
    ("image.shear", {"x_deg": 10, "y_deg": 0}, lambda b: tv.affine(b, 0.0, [0.0, 0.0], 1.0, [10.0, 0.0])),
]


@pytest.mark.parametrize(("name", "params", "theirs"), SHARED, ids=[row[0] for row in SHARED])
def test_boxes_agree_with_torchvision(name, params, theirs):
    operator = robustaug.create(name, **params)
    out = draw_with_targets(operator, torch.zeros(1, 3, 30, 40), Targets(boxes=BOX))
    given = tv_tensors.BoundingBoxes(BOX[0], format="XYXY", canvas_size=(30, 40))  # type: ignore[call-overload]
    want = tv.clamp_bounding_boxes(theirs(given)).as_subclass(torch.Tensor)
    assert (torch.as_tensor(out.targets.boxes)[0] - want).abs().max() < 1e-4


def test_a_box_that_leaves_the_image_says_how_much_of_it_is_left():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [30, 0, 40, 10]]])
    out = draw_with_targets(
        robustaug.create("image.translate", x=-0.125, y=0), torch.zeros(1, 1, 40, 40), Targets(boxes=boxes)
    )
    assert torch.as_tensor(out.box_visible)[0].tolist() == pytest.approx([0.5, 1.0])
    assert torch.as_tensor(out.targets.boxes)[0].tolist() == [[0, 0, 5, 10], [25, 0, 35, 10]]


def test_samples_left_alone_by_p_keep_their_targets():
    flip = robustaug.create("image.horizontal_flip", p=0.5)
    params = flip.sample(Keys.of(0, 8))
    points = torch.full((8, 1, 2), 2.0)
    out = apply_with_targets(flip, torch.zeros(8, 1, 16, 16), params, Targets(keypoints=points))
    assert torch.equal(torch.as_tensor(out.targets.keypoints)[:, 0, 0] == 13, params["active"])


def test_mistakes_are_named():
    flip, image = robustaug.create("image.horizontal_flip"), torch.zeros(2, 1, 8, 8)
    for targets, message in [
        (Targets(masks=torch.zeros(2, 9, 8)), "masks must have shape"),
        (Targets(boxes=torch.zeros(1, 3, 4)), "boxes must have one entry an image: 2 images, 1 boxes"),
        (Targets(keypoints=torch.zeros(2, 3, 3)), r"keypoints must be floating with shape \(N, 2\)"),
        (Targets(boxes=torch.zeros(2, 3, 4, dtype=torch.int64)), "boxes must be floating"),
    ]:
        with pytest.raises(ValueError, match=message):
            draw_with_targets(flip, image, targets)
    with pytest.raises(ValueError, match=r"must have shape \(B, C, H, W\).*makes a batch"):
        draw_with_targets(flip, image[0], Targets())

"""Rotations and translations that break a model."""

from robustaug.attacks.preset import preset
from robustaug.attacks.worst_case import WorstCase

preset(
    "attack.spatial",
    WorstCase,
    """Turn and move each image to wherever the model fails, over the published grid.

    Engstrom et al. 2019, "Exploring the landscape of spatial robustness", arXiv:1712.02779, section 3: up to 30 degrees
    and a tenth of the sides (3 pixels of 32), on 31 angles and 5 places either way; their worst of 10 draws is
    search="random", tries=10, counts=None. It is `attack.worst_case` over `image.affine`.
    """,
    tags={"score", "image"},
    operator={
        "image.affine": {"angle_deg": [-30, 30], "x": [-0.1, 0.1], "y": [-0.1, 0.1], "factor": 1, "shear_deg": 0}
    },
    search="grid",
    counts={"angle_deg": 31, "x": 5, "y": 5},
)

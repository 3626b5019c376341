"""The deterministic corruptions against the PyPI package imagecorruptions, where it is installed.

It wants another OpenCV than the rest of the test set, so it is no dependency. To run this:
`pip install --no-deps imagecorruptions scikit-image imageio lazy-loader`.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

import robustaug

# gaussian_blur, glass_blur and fog stop with errors on today's NumPy and scikit-image; elastic_transform has other
# constants and no affine step there
NAMES = [
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "saturate",
    "pixelate",
    "jpeg_compression",
]


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", NAMES)
def test_agrees_within_two_levels(name, severity):
    imagecorruptions = pytest.importorskip("imagecorruptions")
    for picture in load_sample_images().images:
        image = np.asarray(Image.fromarray(picture).crop((100, 0, 527, 427)).resize((224, 224)))
        want = imagecorruptions.corrupt(image, severity=severity, corruption_name=name).astype(float)
        operator = robustaug.create(f"imagenet_c.{name}", severity=severity)
        got = operator(torch.from_numpy(image.copy()).permute(2, 0, 1)).permute(1, 2, 0).numpy().astype(float)
        assert np.abs(got - want).mean() <= 2

"""AlexNet's published errors on ImageNet-C, which mCE is relative to.

Source: Hendrycks & Dietterich 2019 (arXiv 1903.12261), table 1 and its authors' public evaluation code: top-1 errors,
means over severities 1 to 5.
"""

from __future__ import annotations

CLEAN = 0.435
"""On ImageNet's validation data."""

ALEXNET = {
    "imagenet_c.gaussian_noise": 0.886428,
    "imagenet_c.shot_noise": 0.894468,
    "imagenet_c.impulse_noise": 0.922640,
    "imagenet_c.defocus_blur": 0.819880,
    "imagenet_c.glass_blur": 0.826268,
    "imagenet_c.motion_blur": 0.785948,
    "imagenet_c.zoom_blur": 0.798360,
    "imagenet_c.snow": 0.866816,
    "imagenet_c.frost": 0.826572,
    "imagenet_c.fog": 0.819324,
    "imagenet_c.brightness": 0.564592,
    "imagenet_c.contrast": 0.853204,
    "imagenet_c.elastic_transform": 0.646056,
    "imagenet_c.pixelate": 0.717840,
    "imagenet_c.jpeg_compression": 0.606500,
}
"""By scenario."""

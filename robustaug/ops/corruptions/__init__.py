"""The corruption sets of ImageNet-C and CIFAR-10-C as published. Importing this package registers them all.

Source: Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations",
arXiv 1903.12261, and its public generator, whose constants these are: made for 224 x 224 (`imagenet_c`) and 32 x 32
(`cifar_c`). Severity 3 is what an operator does when none is given. The published severities are not graded by their
distance to the image: saturate first takes colour away and then adds it, elastic_transform changes its kind.
"""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

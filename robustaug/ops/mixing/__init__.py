"""Mixing: images of a batch with one another, and their labels with them. Importing this package registers them all."""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

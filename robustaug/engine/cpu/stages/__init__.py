"""Importing this package registers every stage of the CPU; it imports Numba."""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

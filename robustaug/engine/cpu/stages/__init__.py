"""Importing this package registers every stage of the CPU; it imports Numba."""

import sys

from robustaug.engine.cpu.stage import STAGES
from robustaug.registry import import_submodules

__all__ = ["STAGES"]

import_submodules(sys.modules[__name__])

"""Operators on tables: what goes wrong between the world and a feature column. Importing this registers them all."""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

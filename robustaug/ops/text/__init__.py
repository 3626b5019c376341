"""Operators on text, one family a file. Importing this package registers them all."""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

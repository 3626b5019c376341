"""Attacks on text classifiers: what may stand for a word, one search, one driver, and the check of what it claims."""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

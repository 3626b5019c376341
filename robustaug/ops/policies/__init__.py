"""Policies: which operation each sample gets, and how strongly. Importing this package registers them all."""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

"""Any classifier behind one small face. Importing this package registers the built-in models."""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

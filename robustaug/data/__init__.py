"""Sources of labelled images, texts, rows and series, and the plugs that put a pipeline into a DataLoader.

Importing this package registers every source, one a file.
"""

import sys

from robustaug.data.opening import open_source
from robustaug.registry import import_submodules

__all__ = ["open_source"]

import_submodules(sys.modules[__name__])

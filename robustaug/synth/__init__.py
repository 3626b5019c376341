"""Data made rather than collected, and the gate that says whether it may be used.

Importing this package registers every synthesiser as a source `synth.*`, one a file.
"""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

"""Losses, one idea a file; importing the package registers them as `loss.*`."""

from __future__ import annotations

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

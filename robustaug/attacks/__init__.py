"""Threat models, the one driver of gradient attacks, one attack a file, and the verifier. Importing registers all."""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

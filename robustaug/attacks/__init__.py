"""Threat models, the one driver of gradient attacks, one attack a file, and the verifier. Importing registers all.

In packages of their own: what hides gradients (`masking`), points kept in files (`witness`), attacks on texts (`text`)
and those of other libraries (`adapters`).
"""

import sys

from robustaug.registry import import_submodules

import_submodules(sys.modules[__name__])

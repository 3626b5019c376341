"""Points that are said to break a model: gathered from a result, written, read as anybody's claim, and checked again.

`layout` is what a file must look like before any of it is used; `claimed` makes points again from their parameters.
"""

from robustaug.attacks.witness.layout import METADATA_KEY
from robustaug.attacks.witness.witnesses import Checked, Witnesses, check, gather, read, write

__all__ = ["METADATA_KEY", "Checked", "Witnesses", "check", "gather", "read", "write"]

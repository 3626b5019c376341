"""Plotly's script, packed to a third of its size, and what the page's policy lets run: nothing but what it names.

A page holds the script deflated and in base64; `page.js` unpacks it in the browser. Scripts run by their hash alone,
the unpacked one too, so that no text of anybody's can become one.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from functools import cache
from typing import NamedTuple


class Bundle(NamedTuple):
    """Plotly's script.

    Attributes:
        packed: its UTF-8 bytes in zlib's format, in base64.
        source: its hash as a Content-Security-Policy writes it.
    """

    packed: str
    source: str


@cache  # packing takes a second, and a process may write many pages
def plotly() -> Bundle:
    """Return plotly's script as the installed package has it."""
    from plotly.offline import get_plotlyjs

    text = get_plotlyjs()
    packed = zlib.compress(text.encode(), level=9)
    return Bundle(base64.b64encode(packed).decode("ascii"), hash_source(text))


def hash_source(script: str) -> str:
    """Return the source expression that allows exactly this script (Content Security Policy 3, section 2.3.1).

    >>> hash_source("alert('Hello, world.');")
    "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
    """
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"

"""Compiled code on disk, so that the second process compiles nothing.

Numba keeps compiled code beside a function's source file and looks at that file's date alone. Ours follows from more:
the formulas that an operator brings and the helpers that are called. So it is kept in the user's cache folder, under
a digest of all that it is made of.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature


@functools.cache
def folder(kind: str = "numba") -> Path:
    """Return the folder for one kind of compiled code, in ROBUSTAUG_CACHE or robustaug/ in the user's cache folder.

    Where neither can be written to, a private folder that this process alone knows.
    """
    base = os.environ.get("ROBUSTAUG_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "robustaug"
    path = Path(base).expanduser() / kind
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError:
        return Path(tempfile.mkdtemp(prefix="robustaug-"))


@functools.cache
def engine_digest() -> str:
    """Return a digest of everything compiled code depends on besides an operator's formula."""
    root = Path(__file__).parent
    files = [root / "philox.py", root / "scalars.py", *sorted((root / "engine" / "cpu").rglob("*.py"))]
    return digest(numba.__version__, *(file.read_text(encoding="utf-8") for file in files))


def digest(*texts: str) -> str:
    """Return 16 hexadecimal digits that stand for these texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


class _Impl(CompileResultCacheImpl):
    def __init__(self, name: str) -> None:
        self._name = name
        self._locator: Any = _Locator()

    @property
    def filename_base(self) -> str:
        return self._name


class _Locator:
    _py_file = "<robustaug>"

    def ensure_cache_path(self) -> None:
        folder().mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(folder())


class DigestCache(FunctionCache):
    """Numba's cache, under a name and a digest of our own instead of a source file and its date."""

    def __init__(self, function: Callable[..., Any], name: str, stamp: str) -> None:
        self._name, self._py_func, self._stamp = repr(function), function, stamp
        self._impl = _Impl(f"{name}-{stamp}")
        self._cache_path = str(folder())
        self._cache_file = IndexDataCacheFile(self._cache_path, f"{name}-{stamp}", stamp)
        self.enable()

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple(), self._stamp


def dispatcher(function: Callable[..., Any], signature: Any, name: str, *texts: str, **options: Any) -> Any:
    """Compile `function` for one signature, or read it from disk: what `numba.njit` returns, without the GIL.

    Args:
        name: of the files, for people.
        texts: what the code is made of besides the engine: another text, another entry.
    """
    made: Any = numba.njit(nogil=True, **options)(function)
    made._cache = _cache(function, name, *texts)
    with _uncollected():
        made.compile(signature)
    return made


def callback(function: Callable[..., Any], signature: Any, name: str, *texts: str) -> Any:
    """Compile `function` as a C function, or read it from disk: its `address` can be called."""
    options = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}
    made: Any = CFunc(function, normalize_signature(signature), {}, options)
    made._cache = _cache(function, name, *texts)
    with _uncollected():
        made.compile()
    return made


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Hold garbage collection: compiling makes millions of objects that live, and a quarter of its time goes there."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _cache(function: Callable[..., Any], name: str, *texts: str) -> DigestCache:
    safe = "".join(c if c.isalnum() else "_" for c in name)
    return DigestCache(function, safe, digest(engine_digest(), *texts))

"""Every operator, attack, source, model and score by name.

A name is `family.thing`: `image.brightness`, `attack.pgd`, `data.digits`. The family decides the kind
and where the built-in entries live, so that `import robustaug` need not import them.
"""

from __future__ import annotations

import builtins
import difflib
import importlib
import importlib.metadata
import pkgutil
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, cast

ENTRY_POINT_GROUP = "robustaug.operators"
Factory = TypeVar("Factory", bound=Callable[..., Any])


class Family(NamedTuple):
    """What every name with one prefix has in common."""

    kind: str
    modality: str | None
    module: str | None  # imported on first use to register the built-in entries
    adapter: str | None = None  # a module whose `entry(name)` makes the entries of another library on demand


FAMILIES: dict[str, Family] = {
    "image": Family("operator", "image", "robustaug.ops.image"),
    "imagenet_c": Family("operator", "image", "robustaug.ops.corruptions"),
    "cifar_c": Family("operator", "image", "robustaug.ops.corruptions"),
    "imagenet_c_bar": Family("operator", "image", "robustaug.ops.corruptions"),
    "policy": Family("operator", "image", "robustaug.ops.policies"),
    "mixing": Family("mixer", "image", "robustaug.ops.mixing"),
    "text": Family("operator", "text", "robustaug.ops.text"),
    "signal": Family("operator", "signal", "robustaug.ops.signal"),
    "tabular": Family("operator", "tabular", "robustaug.ops.tabular"),
    "compose": Family("combinator", None, "robustaug.pipeline"),
    "attack": Family("attack", None, "robustaug.attacks"),
    "data": Family("source", None, "robustaug.data"),
    "synth": Family("source", None, "robustaug.synth"),
    "model": Family("model", None, "robustaug.models"),
    "ood": Family("score", None, "robustaug.trust.ood"),
    "loss": Family("loss", None, "robustaug.train.losses"),
    "torchvision": Family("operator", "image", None, adapter="robustaug.ops.adapters.torchvision"),
    "albumentations": Family("operator", "image", None, adapter="robustaug.ops.adapters.albumentations"),
    "nlpaug": Family("operator", "text", None, adapter="robustaug.ops.adapters.nlpaug"),
    "torchattacks": Family("attack", None, None, adapter="robustaug.attacks.adapters.torchattacks"),
}


@dataclass(frozen=True)
class Entry:
    """One registered thing: its name, what it is, and the callable that makes it."""

    name: str
    kind: str
    modality: str | None
    tags: frozenset[str]
    factory: Callable[..., Any]

    @property
    def summary(self) -> str:
        """First line of the factory's docstring."""
        return (self.factory.__doc__ or "").strip().split("\n")[0]


_entries: dict[str, Entry] = {}
_loaded: set[str] = set()
_lock = threading.RLock()  # a loader thread and the main thread may both ask first


def register(
    name: str, *, tags: Iterable[str] = (), kind: str | None = None, modality: str | None = None
) -> Callable[[Factory], Factory]:
    """Register the class or function below under `name`; a class learns its name as the attribute `name`.

    Args:
        name: `family.thing`, lower case. A family not listed in `FAMILIES` must pass `kind`.
        tags: words to filter by, such as "colour" or "pixelwise".
        kind: "operator", "attack", "source", ...; taken from the family when left out.
        modality: "image", "text", ...; taken from the family when left out.

    Raises:
        ValueError: the name is malformed, is taken, or its family is unknown and no kind is given.
    """
    prefix, _, rest = name.partition(".")
    if not prefix or not rest or name != name.lower():
        raise ValueError(f"name must read 'family.thing' in lower case, got {name!r}")
    family = FAMILIES.get(prefix)
    if family is None and kind is None:
        raise ValueError(
            f"name {name!r} has an unknown family {prefix!r}; pass kind=, or use one of {sorted(FAMILIES)}"
        )

    def decorate(factory: Factory) -> Factory:
        resolved_kind = kind or (family.kind if family else "")
        resolved_modality = modality or (family.modality if family else None)
        entry = Entry(name, resolved_kind, resolved_modality, frozenset(tags), factory)
        with _lock:
            taken = _entries.get(name)
            if taken is not None:
                raise ValueError(
                    f"{name!r} is already registered by {taken.factory.__module__}.{taken.factory.__qualname__}; "
                    "choose another name"
                )
            _entries[name] = entry
            if isinstance(made := cast(Any, factory), type):
                made.name = name  # type: ignore[attr-defined]
        return factory

    return decorate


def import_submodules(package: ModuleType) -> None:
    """Import every module of `package`, so that a new file registers itself by existing."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def _load_family(prefix: str) -> None:
    family = FAMILIES.get(prefix)
    if family is None or family.module is None or prefix in _loaded:
        return
    with _lock:
        if prefix not in _loaded:
            importlib.import_module(family.module)
            _loaded.add(prefix)  # only after success: a failed import must fail again, not look empty


def _load_entry_points() -> None:
    if ENTRY_POINT_GROUP in _loaded:
        return
    with _lock:
        if ENTRY_POINT_GROUP in _loaded:
            return
        _loaded.add(ENTRY_POINT_GROUP)
        for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
            try:
                point.load()
            except Exception as error:  # a third party's import may raise anything; it must not take ours down
                warnings.warn(f"plug-in {point.name!r} ({point.value}) failed to load: {error}", stacklevel=2)


def lookup(name: str) -> Entry:
    """Return the entry called `name`.

    Raises:
        ValueError: no such name; the message names the nearest ones.
        ImportError: the name belongs to a library that is not installed.
    """
    prefix, _, rest = name.partition(".")
    family = FAMILIES.get(prefix)
    if family is not None and family.adapter is not None:
        return importlib.import_module(family.adapter).entry(rest)
    _load_family(prefix)
    if name not in _entries:
        _load_entry_points()
    if name in _entries:
        return _entries[name]
    for prefix in FAMILIES:
        _load_family(prefix)
    raise ValueError(f"unknown name {name!r}{did_you_mean(name, _entries)}")


def create(name: str, /, **params: Any) -> Any:
    """Make the registered thing called `name` with these parameters.

    >>> import robustaug
    >>> robustaug.create("image.brightness", factor=(0.8, 1.2))
    robustaug.create('image.brightness', factor=[0.8, 1.2])

    Raises:
        ValueError: unknown name (the nearest are named), or a parameter's value is refused.
        TypeError: unknown or missing parameter.
    """
    return lookup(name).factory(**params)


def read_spec(spec: Any, *kinds: str) -> tuple[Entry, dict[str, Any]]:
    """Return what `name` or `{name: parameters}` means: the entry, and the parameters that are given for it.

    Args:
        kinds: such as "source"; it must be of one of them, or of any when left out.

    Raises:
        ValueError: another form, an unknown name, or another kind.
    """
    if not isinstance(spec, str) and not (isinstance(spec, Mapping) and len(spec) == 1):
        raise ValueError(f"must read `name` or `{{name: parameters}}`, got {spec!r}")
    name, params = (spec, None) if isinstance(spec, str) else next(iter(spec.items()))
    entry = lookup(str(name))
    if kinds and entry.kind not in kinds:
        wanted = " or ".join(map(repr, kinds))
        shown = f"; `robustaug ops list --kind {kinds[0]}` shows those there are"
        raise ValueError(f"{entry.name!r} is of kind {entry.kind!r}, not {wanted}{shown}")
    if params is not None and not isinstance(params, Mapping):
        raise ValueError(f"{entry.name!r}: its parameters must be a mapping, got {params!r}")
    return entry, dict(params or {})


def spec_name(spec: Any) -> str:
    """Return the name in `name` or `{name: parameters}`; see `read_spec`."""
    return read_spec(spec)[0].name


def make(spec: Any, *kinds: str) -> Any:
    """Make the registered thing that `name` or `{name: parameters}` describes; see `read_spec` and `create`."""
    entry, params = read_spec(spec, *kinds)
    return entry.factory(**params)


def list(kind: str | None = None, modality: str | None = None, tag: str | None = None) -> builtins.list[str]:  # noqa: A001
    """Return the sorted names that match every given filter.

    Raises:
        ValueError: nothing has this kind, modality or tag.
    """
    for prefix, family in FAMILIES.items():
        # a family without a modality may hold entries of any; the others cannot match, and may be slow to import
        if kind in (None, family.kind) and (modality is None or family.modality in (None, modality)):
            _load_family(prefix)
    _load_entry_points()
    entries = tuple(_entries.values())
    known = {
        "kind": (kind, {e.kind for e in entries} | {f.kind for f in FAMILIES.values()}),
        "modality": (modality, {e.modality or "" for e in entries} | {f.modality or "" for f in FAMILIES.values()}),
        "tag": (tag, {t for e in entries for t in e.tags}),
    }
    for field, (value, allowed) in known.items():
        if value is not None and value not in allowed:
            near = did_you_mean(value, allowed)
            raise ValueError(f"unknown {field} {value!r}{near}; known: {sorted(allowed - {''})}")
    return sorted(
        e.name
        for e in entries
        if (kind is None or e.kind == kind)
        and (modality is None or e.modality == modality)
        and (tag is None or tag in e.tags)
    )


def check_parameters(name: str, params: Iterable[str], known: Iterable[str]) -> None:
    """Refuse parameters that the thing called `name` does not have.

    Raises:
        TypeError: names the first one, the nearest known ones, and all.
    """
    known = [*known]
    for key in params:
        if key not in known:
            raise TypeError(f"{name} has no parameter {key!r}{did_you_mean(key, known)}; it has {', '.join(known)}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x' or 'y'?" for the nearest known words, or an empty string."""
    near = difflib.get_close_matches(word, tuple(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""

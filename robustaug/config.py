"""YAML files to typed configs: every mistake is named at once, with its place and the nearest known key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from robustaug.registry import did_you_mean


class Strict(BaseModel):
    """Base of every config: unknown keys are errors, values are not changed after loading."""

    # an endless box must not become null in what is stored of a config
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


Config = TypeVar("Config", bound=BaseModel)
_MOST_VALUES = 100_000  # of a config, aliases unfolded; a few lines of YAML can stand for billions
_ALTERNATIVE = re.compile(r"(function-[a-z]+|literal|dict|list|nullable|constrained-[a-z]+)\[.*\]")
"""Which of several types of a value a mistake is about, as pydantic puts it among the keys that lead there."""
_FRACTION = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*/\s*([0-9]*\.?[0-9]+)\s*")


class ConfigError(ValueError):
    """All mistakes of one config, one a line."""


def parse_ratio(value: Any) -> Any:
    """Read "8/255" as a number; anything else passes through unchanged."""
    if isinstance(value, str) and (match := _FRACTION.fullmatch(value)):
        numerator, denominator = (float(group) for group in match.groups())
        if denominator == 0:
            raise ValueError(f"{value!r} divides by zero")
        return numerator / denominator
    return value


Ratio = Annotated[float, BeforeValidator(parse_ratio)]
"""A float that YAML may also spell as a fraction: `eps: 8/255`."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error instead of a silent overwrite."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a name or a number", key_node.start_mark)
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
# YAML 1.1 reads 1e-3 as text; people mean a number
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str, name: str = "<text>") -> Any:
    """Parse YAML safely: no tags that build objects, no key twice, no aliases that grow without end.

    Raises:
        ConfigError: not YAML, or not YAML that a config needs; the message has the line where there is one.
    """
    try:
        return _parse(text)
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply for a config, or an alias (*) that holds itself") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: such as the date 2026-13-01
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None


def _parse(text: str) -> Any:
    loader = _UniqueKeyLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > _MOST_VALUES:
            raise ValueError(f"its aliases (*) unfold to more than {_MOST_VALUES:,} values; write them out")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a node with its aliases unfolded; each node is visited once, however often it is named."""
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


def read_yaml(path: str | Path) -> Any:
    """Parse the YAML file at `path`.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: not YAML, or not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no config at {path}; give the path of a YAML file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error}") from None
    return parse_yaml(text, str(path))


def load(path: str | Path, schema: type[Config], overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file into `schema`, with `key=value` overrides (`train.epochs=3`) applied on top.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: every mistake, one a line, as `file: path.to.key: what is wrong`.
    """
    data = read_yaml(path)
    return validate({} if data is None else data, schema, str(path), overrides)


def validate(data: Any, schema: type[Config], name: str, overrides: Sequence[str] = ()) -> Config:
    """Check parsed YAML against `schema`; see `load`."""
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: the top level must be a mapping of keys, got {type(data).__name__}")
    for override in overrides:
        data = _override(data, override)
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        lines = [f"{name}: {_explain(item, schema)}" for item in _meant(error.errors())]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _override(data: dict[str, Any], override: str) -> dict[str, Any]:
    """Return a copy of `data` in which the dotted key of `key=value` is replaced."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override must read key=value, got {override!r}")
    value = parse_yaml(text, f"override {override!r}")
    root = dict(data)
    node: Any = root
    parts = key.split(".")
    # names such as `attack.pgd` hold dots themselves, so the longest existing key wins
    while parts:
        size = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in node), 1)
        head, parts = ".".join(parts[:size]), parts[size:]
        if not parts:
            node[head] = value
            break
        child = node.get(head)
        if child is not None and not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {head!r} is not a mapping, it holds {child!r}")
        node[head] = dict(child or {})
        node = node[head]
    return root


def _meant(errors: Sequence[Any]) -> list[Any]:
    """Leave out that a mapping is no text, where a text or a mapping may stand and it is the mapping that has mistakes.

    Such as `suite`, a path or the suite itself.
    """

    def aside(item: Any) -> bool:
        above = item["loc"][:-1]
        return (
            (item["type"], item["loc"][-1:]) == ("string_type", ("str",))
            and isinstance(item["input"], dict)
            and any(other["loc"][: len(above)] == above and other is not item for other in errors)
        )

    return [item for item in errors if not aside(item)]


def _explain(item: Any, schema: type[BaseModel]) -> str:
    where = ".".join(part for part in map(str, item["loc"]) if not _ALTERNATIVE.fullmatch(part)) or "(top level)"
    if item["type"] == "extra_forbidden":
        key = str(item["loc"][-1])
        known = _fields_at(schema, item["loc"][:-1])
        hint = did_you_mean(key, known) or (f"; known: {sorted(known)}" if known else "")
        return f"{where}: unknown key{hint}"
    if item["type"] == "missing":
        return f"{where}: required, but missing"
    message = item["msg"].removeprefix("Value error, ")
    shown = repr(item["input"])
    if item["type"] in ("value_error", "assertion_error"):
        return f"{where}: {message}"
    return f"{where}: {message[0].lower()}{message[1:]}, got {shown if len(shown) < 80 else shown[:77] + '...'}"


def _fields_at(schema: type[BaseModel], path: Sequence[Any]) -> set[str]:
    """Follow a location through nested models and return the field names known there."""
    current: list[type[BaseModel]] = [schema]
    for part in path:
        following: list[type[BaseModel]] = []
        for model in current:
            if model.__name__ == part:
                following.append(model)
            elif part in model.model_fields:
                following.extend(_models_in(model.model_fields[part].annotation))
        current = following or current
    return {name for model in current for name in model.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]

"""Other labelled data of the same classes, such as another hospital's: what a release may meet, where it is at hand."""

from __future__ import annotations

from robustaug.data.opening import open_source
from robustaug.data.source import Source
from robustaug.evaluate.suite import Suite

_SHOWN = 5


def proxy_sources(suite: Suite, test: Source) -> dict[str, Source]:
    """Open the source of every `data` scenario, by the scenario's name.

    Raises:
        ValueError: samples of another kind or shape than the test data's, encoded otherwise, or with other classes or
            another order of them; names both.
    """
    specs = {plan.scenario: plan.spec for plan in suite.plans() if plan.kind == "data"}
    sources = {name: open_source(spec) for name, spec in specs.items()}
    for name, source in sources.items():
        _check(f"scenario {name!r}", source, test)
    return sources


def _check(where: str, source: Source, test: Source) -> None:
    if source.layout is not test.layout or source.shape != test.shape:
        raise ValueError(
            f"{where}: samples of {source.name} have shape {source.shape}, those of {test.name} {test.shape}, of kind "
            f"{source.layout.name} and {test.layout.name}; set the source's size and channels to match"
        )
    if source.classes != test.classes:
        raise ValueError(
            f"{where}: {source.name} has the classes {_listed(source.classes)}, {test.name} {_listed(test.classes)}; "
            f"{_difference(source.classes, test.classes)}; a model's answers count by position, so give the source the "
            "same classes in the same order"
        )
    if source.encoding != test.encoding:
        raise ValueError(
            f"{where}: the numbers of {source.name} stand for other things than those of {test.name}: other means, "
            "spreads or categories; give both `fit`, the training file, and the same val_share, test_share and seed"
        )


def _listed(classes: list[str]) -> str:
    return f"{classes[:_SHOWN]}" + (f" and {len(classes) - _SHOWN:,} more" if len(classes) > _SHOWN else "")


def _difference(found: list[str], wanted: list[str]) -> str:
    lacking = [name for name in wanted if name not in found]
    added = [name for name in found if name not in wanted]
    if not lacking and not added:
        at = next(at for at, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
        return f"they differ in order, first at position {at}: {found[at]!r} and {wanted[at]!r}"
    said = [f"{word} {_listed(names)}" for word, names in (("lacks", lacking), ("adds", added)) if names]
    return f"the first {' and '.join(said)}"

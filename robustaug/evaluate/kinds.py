"""Whether models and scenarios fit the kind of data: images, texts, rows of a table or series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustaug import registry
from robustaug.data.source import Source
from robustaug.evaluate.asked import check_asked
from robustaug.evaluate.domains import check_domains
from robustaug.evaluate.protected import check_protected
from robustaug.evaluate.sequences import Sequence
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import Classifier
from robustaug.models.text_classifier import TextClassifier
from robustaug.ops.operator import Operator
from robustaug.ops.text.texts import TEXTS
from robustaug.registry import did_you_mean


def check_model(model: Classifier, source: Source) -> None:
    """Refuse a model of texts for other data, any other model for texts, and data encoded otherwise than in training.

    Raises:
        ValueError: names both.
    """
    if isinstance(model, TextClassifier) != (source.layout is TEXTS):
        wanted = "texts" if isinstance(model, TextClassifier) else "tensors"
        raise ValueError(
            f"model {model.name!r} takes {wanted}, {source.name} holds samples of kind {source.layout.name!r}; "
            "set another model, or other data"
        )
    if model.encoding and source.encoding and model.encoding != source.encoding:
        raise ValueError(
            f"model {model.name!r} was trained on samples whose numbers stood for other things than those of "
            f"{source.name}: other means, spreads or categories; give the data `fit`, the training file, and the "
            "val_share, test_share and seed of training"
        )


def check_suite(suite: Suite, source: Source) -> None:
    """Refuse scenarios, protected columns and domains that do not fit the test data, before anything is measured.

    Raises:
        ValueError: names the first one.
    """
    check_protected(suite, source)
    check_asked(suite, source)
    check_domains(suite, source)
    kind = source.layout.name
    for plan in suite.plans():
        if plan.kind in ("operator", "behaviour"):
            name = registry.spec_name(plan.spec if plan.kind == "operator" else plan.spec["operator"])
            operator: type[Operator] = registry.lookup(name).factory  # type: ignore[assignment]
            if (found := operator.layout.name) != kind:  # what it works on; a modality is what its family says
                raise ValueError(f"{name} is for data of kind {found!r}, {source.name} holds {kind!r}; leave it out")
        if plan.kind == "behaviour":
            _check_expected(plan.scenario, plan.spec["expects"], source)
        if plan.kind == "sequence" and (found := Sequence(**plan.spec).make().layout.name) != kind:
            raise ValueError(
                f"scenario {plan.scenario!r}: its operator is for data of kind {found!r}, {source.name} holds {kind!r}"
            )
        if plan.kind in ("attack", "nearest", "certified", "smoothed", "masking") and source.layout is TEXTS:
            raise ValueError(
                f"scenario {plan.scenario!r}: attacks and certificates of suites move numbers, {source.name} holds "
                "texts; leave it out, and call attack.text_* on lists of texts"
            )


def _check_expected(scenario: str, expects: Any, source: Source) -> None:
    named = [name for pair in expects.items() for name in pair] if isinstance(expects, Mapping) else []
    for name in named:
        if name not in source.classes:
            near = did_you_mean(name, source.classes) or f"; classes: {', '.join(map(repr, source.classes))}"
            raise ValueError(f"scenario {scenario!r}: expects names {name!r}, no class of {source.name}{near}")

"""Whether a recipe, its model and its data go together; what does not is refused before training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robustaug.attacks.attack import Attack
from robustaug.attacks.inputs import check_eps
from robustaug.attacks.text.attack import TextAttack
from robustaug.data.source import Source
from robustaug.evaluate.kinds import check_model
from robustaug.models.classifier import Classifier
from robustaug.models.text_classifier import check_face
from robustaug.ops.layout import IMAGES
from robustaug.ops.text.texts import TEXTS
from robustaug.train.recipe import Recipe


def check_fit(recipe: Recipe, model: Classifier, source: Source, validation: Source, unlabelled: Source | None) -> None:
    """Refuse what cannot work together.

    Raises:
        ValueError: names the part and what to do.
        TypeError: the loss moves embeddings, and the model cannot be cut there.
    """
    _check_kinds(recipe, model, source)
    _check_data(recipe, source, validation)
    _check_classes(model, source)
    _check_needs(recipe)
    _check_unlabelled(source, unlabelled)


def _check_kinds(recipe: Recipe, model: Classifier, source: Source) -> None:
    kind = source.layout.name
    check_model(model, source)
    loss = recipe.make_loss()
    if "embeddings" in loss.needs:
        check_face(loss.name, model)
    if source.layout is TEXTS:
        if not loss.one_prediction and "embeddings" not in loss.needs:
            raise ValueError(f"{loss.name} compares tensors and the data are texts; use another, such as loss.freelb")
        if recipe.make_attacks():
            raise ValueError(
                "attack moves numbers and the data are texts; use loss.freelb, and judge by `validation_attack:`, "
                "such as attack.text_char"
            )
        if recipe.compile:
            raise ValueError("compile is for models that take tensors, the data are texts; set it to false")
    synthetic = None if recipe.data is None else recipe.data.synthetic
    images_only = {"mix": recipe.mix, "channels_last": recipe.channels_last, "data.synthetic": synthetic}
    for key, given in images_only.items():
        if given and source.layout is not IMAGES:
            raise ValueError(f"{key} is for images, the training data are of kind {kind!r}; leave it out")
    for judge in recipe.judges()[0]:
        if isinstance(judge, TextAttack) != (source.layout is TEXTS):
            wanted = "texts" if isinstance(judge, TextAttack) else "tensors"
            raise ValueError(f"validation_attack {judge.name} is for {wanted}, the data are of kind {kind!r}")


def _check_data(recipe: Recipe, source: Source, validation: Source) -> None:
    # what is too much depends, for most norms, on the size of a sample
    for attack in (*recipe.make_attacks(), *recipe.judges()[0]):
        if isinstance(attack, Attack):
            try:
                check_eps(attack.eps, attack.threat, math.prod(source.shape))
            except ValueError as error:
                raise ValueError(f"{attack.name}: {error}") from None
    if recipe.batch_size > len(source):
        raise ValueError(f"batch_size is {recipe.batch_size} but the training data has only {len(source)} samples")
    if source.classes != validation.classes:
        raise ValueError(
            f"training and validation data name different classes: {source.classes[:5]} and {validation.classes[:5]}"
        )
    if source.shape != validation.shape:
        raise ValueError(f"training samples have shape {source.shape}, validation samples {validation.shape}")
    if source.layout is not validation.layout:
        raise ValueError(f"training data are of kind {source.layout.name}, validation data {validation.layout.name}")
    if source.encoding != validation.encoding:
        raise ValueError(
            "validation samples become inputs by other means, spreads or categories than training samples; give the "
            "validation data `fit`, the training file, and the val_share, test_share and seed of the training data"
        )


def _check_classes(model: Classifier, source: Source) -> None:
    classes = model.num_classes
    if classes is not None and classes < len(source.classes):
        raise ValueError(
            f"the model has {classes} outputs, the data {len(source.classes)} classes; set the model's `classes`"
        )


def _check_needs(recipe: Recipe) -> None:
    assert recipe.data is not None
    loss = recipe.make_loss()
    name, needs = loss.name, loss.needs
    if recipe.select == "worst_group" and not recipe.data.groups:
        raise ValueError("select is worst_group; name the columns that make groups: data.groups: [class, background]")
    if "group" in needs and not recipe.data.groups:
        raise ValueError(f"{name} looks at groups; name the columns that make them: data.groups: [class, background]")
    if "unlabelled" in needs and recipe.data.unlabelled is None:
        raise ValueError(f"{name} learns from samples without labels; add data.unlabelled")
    if "unlabelled" not in needs | loss.may_use and recipe.data.unlabelled is not None:
        raise ValueError(f"{name} has no use for data.unlabelled; remove it, or take loss.consistency or loss.vat")


def check_groups(recipe: Recipe, trained: Sequence[str], judged: Sequence[str]) -> None:
    """Refuse to judge by the worst group where validation lacks one that there is in training.

    Raises:
        ValueError: names the first.
    """
    missing = [group for group in trained if group not in judged]
    if recipe.select == "worst_group" and missing:
        raise ValueError(
            f"select is worst_group, but the validation data hold no sample of group {missing[0]!r}; take validation "
            "data with all groups, or other data.groups"
        )


def _check_unlabelled(source: Source, unlabelled: Source | None) -> None:
    if unlabelled is None:
        return
    if unlabelled.layout is not source.layout:
        raise ValueError(f"training data are of kind {source.layout.name}, data.unlabelled {unlabelled.layout.name}")
    if unlabelled.shape != source.shape:
        raise ValueError(f"training samples have shape {source.shape}, unlabelled ones {unlabelled.shape}")

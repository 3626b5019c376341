"""What a recipe's parts say about the kind of data they are for; refused before training where the data are others."""

from __future__ import annotations

from robustaug.attacks.text.attack import TextAttack
from robustaug.data.source import Source
from robustaug.evaluate.kinds import check_model
from robustaug.evaluate.suite import spec_name
from robustaug.models.classifier import Classifier
from robustaug.models.text_classifier import check_face
from robustaug.ops.layout import IMAGES
from robustaug.ops.text.texts import TEXTS
from robustaug.train.recipe import Recipe


def check_kinds(recipe: Recipe, model: Classifier, source: Source) -> None:
    """Refuse parts of a recipe that cannot work on the training data.

    Raises:
        ValueError: names the part and what to do.
        TypeError: the loss moves embeddings, and the model cannot be cut there.
    """
    kind = source.layout.name
    check_model(model, source)
    if "embeddings" in recipe.make_loss().needs:
        check_face(spec_name(recipe.loss), model)
    if source.layout is TEXTS:
        loss = recipe.make_loss()
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

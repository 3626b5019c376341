"""Paraphrase and back-translation, by models that the user names. The user answers for their licence and quality."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from robustaug.ops.space import noise_key, uniform
from robustaug.ops.text import seq2seq
from robustaug.ops.text.texts import TextOperator
from robustaug.registry import register


class ModelOperator(TextOperator):
    """Base of operators that run sequence-to-sequence models; these are loaded at the first call."""

    temperature = uniform(0.0, 1.0, bounds=(0, 10), severity=(0.2, 0.4, 0.7, 1.0, 1.5))
    noise = noise_key()

    def __init__(
        self,
        models: dict[str, str],
        *,
        device: str = "cpu",
        max_new_tokens: int = 128,
        local_files_only: bool = False,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        for argument, model in models.items():
            if not isinstance(model, str) or not model:
                raise ValueError(f"{self.name}: {argument} must be a model's name or folder, got {model!r}")
        if not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise ValueError(f"{self.name}: max_new_tokens must be a whole number >= 1, got {max_new_tokens!r}")
        self.models = models
        self.options = {"device": device, "max_new_tokens": max_new_tokens, "local_files_only": local_files_only}
        self._loaded: dict[str, tuple[Any, Any]] = {}

    def write(self, texts: list[str], model: str, temperature: Tensor, noise: Tensor) -> list[str]:
        """Return what `model` writes for each text; a text of nothing but white space stays as it is."""
        if model not in self._loaded:
            self._loaded[model] = seq2seq.load(model, self.options["device"], self.options["local_files_only"])
        rows = [row for row, text in enumerate(texts) if text.strip()]
        out = [*texts]
        if rows:
            some = [texts[row] for row in rows]
            made = seq2seq.generate(
                some, *self._loaded[model], temperature[rows], noise[rows], self.options["max_new_tokens"]
            )
            for row, text in zip(rows, made, strict=True):
                out[row] = text
        return out

    def spec(self) -> dict[str, Any]:
        [(name, params)] = super().spec().items()
        usual = {"device": "cpu", "max_new_tokens": 128, "local_files_only": False}
        return {name: self.models | {k: v for k, v in self.options.items() if v != usual[k]} | params}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_loaded": {}}  # a worker process loads the models itself


@register("text.paraphrase", tags={"model"})
class Paraphrase(ModelOperator):
    """Let a sequence-to-sequence model say it in other words.

    Tokens are drawn from softmax(logits / temperature) with the sample's key; at temperature 0 the likeliest is
    taken. Not label-preserving: what the model keeps is the model's affair. Texts longer than the model takes are
    cut. On other machines, or in other batches, rounding may turn a near-tie the other way.

    Args:
        model: a Hugging Face name or a local folder, with safetensors weights.
        prefix: what the model was trained to see before a text, such as "paraphrase: ".
        device: where the model runs.
        max_new_tokens: the longest it writes.
        local_files_only: never ask the hub.

    Raises:
        ImportError: transformers is not installed.
        ValueError: the model cannot be loaded (at the first call).
    """

    def __init__(self, model: str, prefix: str = "", **params: Any) -> None:
        super().__init__({"model": model}, **params)
        self.prefix = prefix

    def formula(self, texts: list[str], temperature: Tensor, noise: Tensor) -> list[str]:
        asked = [self.prefix + text if text.strip() else text for text in texts]
        return self.write(asked, self.models["model"], temperature, noise)

    def spec(self) -> dict[str, Any]:
        [(name, params)] = super().spec().items()
        return {name: params | ({"prefix": self.prefix} if self.prefix else {})}


@register("text.back_translation", tags={"model"})
class BackTranslation(ModelOperator):
    """Translate to another language and back (Sennrich et al., arXiv 1511.06709), by two models.

    Not label-preserving, and draws and limits are as for text.paraphrase.

    Args:
        forward, backward: Hugging Face names or local folders, such as Helsinki-NLP/opus-mt-en-de and -de-en.
        device, max_new_tokens, local_files_only: as for text.paraphrase.

    Raises:
        ImportError: transformers is not installed.
        ValueError: a model cannot be loaded (at the first call).
    """

    back = noise_key()

    def __init__(self, forward: str, backward: str, **params: Any) -> None:
        super().__init__({"forward": forward, "backward": backward}, **params)

    def formula(self, texts: list[str], temperature: Tensor, noise: Tensor, back: Tensor) -> list[str]:
        there = self.write(texts, self.models["forward"], temperature, noise)
        return self.write(there, self.models["backward"], temperature, back)

"""Classifiers of texts of Hugging Face transformers, with their tokenizers.

Legend: B texts, L tokens of the longest, D numbers of an embedding, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustaug.models.classifier import logits_of
from robustaug.models.text_classifier import TextClassifier
from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.rng import torch_seed

_USUAL_LONGEST = 256
_SHORT, _LONG = "a", "a b c d e f g h"  # of different lengths to any tokenizer


class _HuggingFaceText(nn.Module):
    """A classifier of texts with its tokenizer, cut at its input embeddings: positions are added behind the cut."""

    def __init__(self, module: Any, tokenizer: Any, longest: int) -> None:
        super().__init__()
        self.module = module
        self.tokenizer = tokenizer
        self.longest = longest

    def from_texts(self, texts: list[str]) -> Any:
        ids, mask = self._read(texts)
        return self.module(input_ids=ids, attention_mask=mask)

    def embed(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        ids, mask = self._read(texts)
        return self.module.get_input_embeddings()(ids), mask.bool()

    def from_embeddings(self, embedded: Tensor, mask: Tensor) -> Any:
        return self.module(inputs_embeds=embedded, attention_mask=mask.long())

    def _read(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        read = self.tokenizer(texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt")
        device = self.module.get_input_embeddings().weight.device
        return read["input_ids"].to(device), read["attention_mask"].to(device)


@register("model.huggingface_text", modality="text", tags={"trainable"})
def huggingface_text_model(
    name: str, classes: int | None = None, longest: int | None = None, fresh_head: bool = False, seed: int = 0
) -> TextClassifier:
    """A text classifier of Hugging Face transformers: a local folder, or a name on the hub.

    It can be cut at its embeddings, as loss.freelb asks. Only safetensors weights and transformers' own code are used.
    A model is tried before it is handed out: its answer to a text must be the same beside a longer text, and from
    embeddings, which rules out decoders that look for their last token among the words.

    Args:
        name: a folder with config.json, model.safetensors and a tokenizer, or "owner/model" on the hub.
        classes: K; the model's own number when left out.
        longest: tokens a text is cut to; when left out 256, or as many as the model has positions for.
        fresh_head: draw what the weights lack, the last layer above all, at random: to train a model that was only
            pretrained.
        seed: of what is drawn.

    Raises:
        ImportError: transformers is not installed.
        ValueError: no such model, weights in another format, weights that do not fill the model, longest beyond its
            positions, no padding token, or answers that depend on padding.
    """
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError:
        raise ImportError("model.huggingface_text needs transformers: pip install 'robustaug[huggingface]'") from None
    sizes: dict[str, Any] = {} if classes is None else {"num_labels": classes}
    try:
        with torch_seed(seed):
            module, report = AutoModelForSequenceClassification.from_pretrained(
                name,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=fresh_head,
                **sizes,
            )
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"cannot load {name!r} from Hugging Face: {' '.join(str(error).split())}") from None
    lacking = sorted(str(key) for part in ("missing_keys", "mismatched_keys") for key in report[part])
    if lacking and not fresh_head:
        raise ValueError(
            f"{name!r} does not fill its model; missing or of another shape: {', '.join(lacking[:3])}; "
            "fresh_head: true draws them, to be trained"
        )
    if tokenizer.pad_token_id is None:
        raise ValueError(f"the tokenizer of {name!r} has no padding token, so texts cannot stand side by side; set one")
    made = _HuggingFaceText(module.eval(), tokenizer, _longest(name, module, tokenizer, longest))
    _check_padding(name, made)
    return TextClassifier(made, module.config.num_labels, str(name)).eval()


def _longest(name: str, module: Any, tokenizer: Any, wanted: int | None) -> int:
    """Return how many tokens a text is cut to."""
    positions = _positions(module)
    if wanted is None:
        return _USUAL_LONGEST if positions is None else min(_USUAL_LONGEST, positions)
    check_count("model.huggingface_text", "longest", wanted, tokenizer.num_special_tokens_to_add() + 1)
    if positions is not None and wanted > positions:
        raise ValueError(
            f"model.huggingface_text: longest must be at most the {positions} positions of {name!r}, got {wanted}"
        )
    return wanted


def _positions(module: Any) -> int | None:
    """Return how many tokens the model has positions for, None where they are relative."""
    for path, part in module.named_modules():
        # of the family of RoBERTa, whose positions begin behind that of padding
        if path.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            return part.num_embeddings - part.padding_idx - 1
    positions = getattr(module.config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def _check_padding(name: str, made: _HuggingFaceText) -> None:
    """Refuse a model in which the answer to a text depends on the longer text beside it, or on how it is asked."""
    both = [_SHORT, _LONG]
    try:
        with torch.no_grad():
            answers = [
                logits_of(answer)[0].float()
                for answer in (
                    made.from_texts([_SHORT]),
                    made.from_texts(both),
                    made.from_embeddings(*made.embed([_SHORT])),
                    made.from_embeddings(*made.embed(both)),
                )
            ]
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{name!r} cannot be asked from its embeddings: {' '.join(str(error).split())}") from None
    tolerance = torch.finfo(made.module.dtype).eps ** 0.5
    first = answers[0]
    if any(float((answer - first).abs().max()) > tolerance * float(first.abs().max()) for answer in answers):
        raise ValueError(
            f"{name!r} answers a text otherwise beside a longer one, or from its embeddings, as decoders do and models "
            "whose tokenizer pads on the left; take an encoder such as BERT, padded on the right"
        )

"""Texts rewritten by a sequence-to-sequence model of Hugging Face that the user names.

Legend: B texts, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug.ops.text import draws


def load(model: str, device: str, local_files_only: bool) -> tuple[Any, Any]:
    """Return (tokenizer, model in evaluation mode), from safetensors files only and without a repository's own code.

    Raises:
        ImportError: transformers is not installed.
        ValueError: the model cannot be loaded; the reason is given.
    """
    try:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    except ImportError:
        raise ImportError(
            "text.paraphrase and text.back_translation need transformers: pip install 'robustaug[huggingface]'"
        ) from None
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local_files_only}
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, **options)
        network = AutoModelForSeq2SeqLM.from_pretrained(model, use_safetensors=True, **options)
    except Exception as error:  # transformers and the hub raise many kinds
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot load the sequence-to-sequence model {model!r}: {reason}") from error
    return tokenizer, network.to(device).eval()


class KeyedSampling:
    """A logits processor that makes greedy search draw from softmax(logits / temperature).

    Gumbel noise is added to the logits (the Gumbel-max trick), from each text's key and the position of the token:
    so a draw depends neither on the batch nor on any global generator. At temperature 0 nothing is drawn.
    """

    def __init__(self, temperature: Tensor, key: Tensor) -> None:
        self.temperature = temperature.double().numpy()
        self.seeds = draws.seeds(key)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        vocabulary, step = scores.shape[1], input_ids.shape[1]
        position = np.arange(vocabulary) + step * vocabulary
        u = np.stack([draws.unit(draws.at(seed, position)) for seed in self.seeds])  # (B, V)
        gumbel = -np.log(-np.log(np.clip(u, 1e-300, 1 - 2.0**-53)))
        return scores + torch.from_numpy(gumbel * self.temperature[:, None]).to(scores)


@torch.no_grad()
def generate(
    texts: list[str], tokenizer: Any, network: Any, temperature: Tensor, key: Tensor, max_new_tokens: int
) -> list[str]:
    """Return what the model writes for each text; inputs beyond the model's length are cut there.

    Texts of as many tokens go together, so that no text is padded and none notices the others.
    """
    limit = min(tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", 1 << 20) or 1 << 20)
    tokens = tokenizer([readable(text) for text in texts], truncation=True, max_length=limit)["input_ids"]
    groups: dict[int, list[int]] = defaultdict(list)
    for row, ids in enumerate(tokens):
        groups[len(ids)].append(row)
    out = [""] * len(texts)
    for rows in groups.values():
        for at in range(0, len(rows), 32):
            part = rows[at : at + 32]
            ids = torch.tensor([tokens[row] for row in part], device=network.device)
            made = network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                num_beams=1,
                max_new_tokens=max_new_tokens,
                logits_processor=[KeyedSampling(temperature[part], key[part])],
            )
            for row, text in zip(part, tokenizer.batch_decode(made, skip_special_tokens=True), strict=True):
                out[row] = text
    return out


def readable(text: str) -> str:
    """Return the text with lone surrogates, which tokenizers refuse, as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

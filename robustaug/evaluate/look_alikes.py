"""The groups of `clusters` in a run's clean data, named in words, with pictures of their errors.

Legend: N samples, C H W image.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from robustaug import atomic
from robustaug.data.source import Source, batches
from robustaug.evaluate.clusters import Cluster, find_clusters, over_represented
from robustaug.evaluate.cohorts import metadata, spelt
from robustaug.evaluate.records import Records
from robustaug.ops.layout import IMAGES

SIDECAR = "look_alikes.json"
ALPHA = 0.05
_PICTURES = "look_alikes"
_SHOWN = 6
_LEVEL = 0.01
_MOSTLY = 0.5
_OFTEN = 1 / 3
_LIGHT = {"brightness": ("dark", "bright"), "contrast": ("of low contrast", "of high contrast")}


class LookAlike(NamedTuple):
    """One group of samples that look alike to a model, and on which it errs more than elsewhere.

    Attributes:
        words: what is over-represented in it: "mostly class 8, taken for 3; dark".
        n, errors, error_rate, low, high, rest, p_value: as in `clusters.Cluster`, of the half that tested it.
        shown: for each picture, the class and what the model took it for.
    """

    words: str
    n: int
    errors: int
    error_rate: float
    low: float
    high: float
    rest: float
    p_value: float
    shown: list[tuple[str, str]]


class Found(NamedTuple):
    """What a search in a model's features found: the groups, and how many were tested."""

    groups: list[LookAlike]
    tested: int


def write_look_alikes(records: Records, models: Iterable[str], source: Source) -> None:
    """Write look_alikes.json and the pictures; a model without a column of features has no entry.

    Args:
        source: the test data that the records are of.
    """
    content: dict[str, Any] = {}
    for model in models:
        clean = records.cells(model=model, kind="clean")
        samples = records.samples(clean[0]) if clean else {}
        if "embedding" not in samples or not np.isfinite(samples["embedding"]).all():
            continue
        clusters = find_clusters(samples["embedding"], samples["correct"], samples["index"], ALPHA)
        light = _light(source) if clusters.found and source.layout is IMAGES else {}
        groups = []
        for number, cluster in enumerate(clusters.found):
            rows = np.flatnonzero(cluster.members & ~samples["correct"].astype(bool))[:_SHOWN]
            shown = [tuple(source.classes[samples[c][row]] for c in ("label", "prediction")) for row in rows]
            words = _words(records, cluster, samples, source, light)
            groups.append(LookAlike(words, *cluster[1:], shown=shown)._asdict())  # type: ignore[arg-type]
            if source.layout is IMAGES:
                _store(records, model, number, source, samples["index"][rows])
        content[model] = {"tested": clusters.tested, "groups": groups}
    atomic.write_text(records.folder / SIDECAR, json.dumps(content, indent=1, ensure_ascii=False))


def read_look_alikes(records: Records) -> dict[str, Found]:
    """Return what was found, by model; nothing where the run has no look_alikes.json.

    Raises:
        ValueError: the file is damaged.
    """
    path = records.folder / SIDECAR
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            model: Found([LookAlike(**group) for group in one["groups"]], int(one["tested"]))
            for model, one in content.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); run the experiment again to write it anew") from None


def pictures(records: Records, model: str, number: int) -> np.ndarray:
    """Return the pictures of a group, (n, C, H, W) uint8; none where the data are no images.

    Raises:
        ValueError: the file is damaged.
    """
    path = records.folder / _PICTURES / _file(model, number)
    try:
        return load_file(path)["errors"] if path.exists() else np.zeros((0, 1, 1, 1), dtype=np.uint8)
    except (OSError, SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); run the experiment again to write it anew") from None


def _store(records: Records, model: str, number: int, source: Source, index: np.ndarray) -> None:
    place = {int(i): at for at, i in enumerate(source.sample_index)}
    batch, _ = source.fetch([place[int(i)] for i in index])
    folder = records.folder / _PICTURES
    folder.mkdir(exist_ok=True)
    with atomic.replacing(folder / _file(model, number)) as aside:
        save_file({"errors": np.ascontiguousarray(batch.image.numpy())}, aside)


def _file(model: str, number: int) -> str:
    return f"{hashlib.sha256(model.encode()).hexdigest()[:16]}_{number}.safetensors"


def _light(source: Source) -> dict[str, np.ndarray]:
    """Return the mean and the standard deviation of each image's values, by sample index sorted."""
    rows = []
    for batch in batches(source, 256):
        values = batch.image.float().flatten(1)
        rows.append(torch.stack([batch.index.float(), values.mean(1), values.std(1)]))
    index, mean, spread = torch.cat(rows, dim=1).numpy()
    order = np.argsort(index)
    return {"index": index[order].astype(np.int64), "brightness": mean[order], "contrast": spread[order]}


def _words(records: Records, cluster: Cluster, samples: dict[str, np.ndarray], source: Source, light: Any) -> str:
    """Return what is over-represented: classes with what they are taken for, other metadata, light."""
    inside, index = cluster.members, samples["index"]
    classes = np.array([source.classes[label] for label in samples["label"]])
    parts = [_classes(classes, inside, samples, source)]
    known = metadata(records)
    columns = {} if known is None else {c: g for c, g in known.columns.items() if c != "class"}
    for column, grouping in columns.items():
        values = np.array(grouping.names, dtype=str)[grouping.at[known.rows(index)]]  # type: ignore[union-attr]
        often = over_represented(values, inside, _LEVEL / (len(columns) + 3))
        parts += [f"mostly {spelt(column, value)}" for value, share in often[:1] if share >= _MOSTLY]
    for name, words in _LIGHT.items() if light else ():
        values = light[name][np.searchsorted(light["index"], index)]
        low, high = np.quantile(values, [0.25, 0.75])
        quarter = np.where(values <= low, words[0], np.where(values >= high, words[1], ""))
        often = over_represented(quarter, inside, _LEVEL / (len(columns) + 3))
        parts += [value for value, share in often[:1] if value and share >= _MOSTLY]
    return "; ".join(part for part in parts if part) or "no class or metadata value stands out"


def _classes(classes: np.ndarray, inside: np.ndarray, samples: dict[str, np.ndarray], source: Source) -> str:
    named: list[str] = []
    covered = 0.0
    for name, share in over_represented(classes, inside, _LEVEL / 3)[:3]:
        if covered < _MOSTLY:
            named.append(name)
            covered += share
    wrong = inside & ~samples["correct"].astype(bool)
    pairs = Counter(zip(classes[wrong], samples["prediction"][wrong].tolist(), strict=True))
    (label, taken), count = pairs.most_common(1)[0]
    said = f"mostly {_listed(named)}" if covered >= _MOSTLY else ""
    if count < _OFTEN * wrong.sum():
        return said
    confused = f"often taken for {source.classes[taken]}"
    if said and named == [str(label)]:
        return f"{said}, {confused}"
    return "; ".join(part for part in (said, f"class {label} {confused}") if part)


def _listed(names: list[str]) -> str:
    return f"class {names[0]}" if len(names) == 1 else f"classes {', '.join(names[:-1])} and {names[-1]}"

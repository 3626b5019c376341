"""Augment a Hugging Face data set of Pillow pictures in the workers, one whole batch at a time.

Run: python scripts/examples/huggingface_datasets.py  (needs: pip install 'robustaug[huggingface]')

The data set is made here from the embedded digits, so that nothing is downloaded; `load_dataset(...)["train"]` fits
in its place. Its rows carry no index, so draws go by the content of each picture; a column "index" would be used
instead. The output has Hugging Face's keys, which `transformers.Trainer` takes as `data_collator=`.
"""

from typing import Any

import datasets
import torch
from PIL import Image
from torch.utils.data import DataLoader

import robustaug

PIPELINE = """
- image.horizontal_flip: {p: 0.5}
- image.gaussian_noise: {sigma: [0.0, 0.2]}
"""


def make_digits() -> datasets.Dataset:
    """A data set with the columns image (Pillow pictures) and label."""
    source = robustaug.create("data.digits", split="val")
    pictures = [Image.fromarray(sample.image[0].numpy()) for sample in source]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=source.classes)})
    return datasets.Dataset.from_dict({"image": pictures, "label": source.labels.tolist()}, features=features)


def main(workers: int = 0) -> torch.Tensor:
    collate = robustaug.AugmentedCollate(robustaug.Pipeline.from_yaml(PIPELINE), seed=0, image_key="image")
    digits: Any = make_digits()  # map-style, which is all that DataLoader asks for
    loader = DataLoader(digits, batch_size=50, shuffle=True, num_workers=workers, collate_fn=collate)
    images = torch.empty(0)
    for epoch in range(2):
        collate.set_epoch(epoch)  # reaches the workers, persistent ones too
        for batch in loader:
            images = batch["image"]  # (B, 1, 8, 8) uint8, beside batch["label"] (B,) int64
    return images


if __name__ == "__main__":
    last = main()
    print(f"last batch: {tuple(last.shape)} {last.dtype}, mean {last.float().mean():.1f}")

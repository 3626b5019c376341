"""Train with Lightning on batches that are augmented whole, on the device, without a change to the module.

Run: python scripts/examples/lightning_module.py      (needs: pip install 'robustaug[lightning]')

Lightning takes any iterable as a loader: the AugmentedLoader stands where the DataLoader stood. It advances its
epoch by itself.
"""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader

import robustaug

PIPELINE = """
- image.translate: {x: [-0.1, 0.1], y: [-0.1, 0.1], p: 0.5}
- image.contrast: {factor: [0.5, 1.2]}
"""


class Digits(lightning.LightningModule):
    """One hidden layer; knows nothing of augmentation."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.model(batch.image.float() / 255), batch.label)

    def validation_step(self, batch, _):
        accuracy = (self.model(batch.image.float() / 255).argmax(1) == batch.label).float().mean()
        self.log("accuracy", accuracy, batch_size=len(batch.label))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(epochs: int = 8, **trainer_options) -> float:
    lightning.seed_everything(0, verbose=False)
    loader = DataLoader(robustaug.create("data.digits", split="train"), batch_size=64, shuffle=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train = robustaug.AugmentedLoader(loader, robustaug.Pipeline.from_yaml(PIPELINE), device=device, seed=0)
    test = DataLoader(robustaug.create("data.digits", split="test"), batch_size=100)
    trainer = lightning.Trainer(
        max_epochs=epochs, devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **trainer_options,
    )  # fmt: skip
    trainer.fit(Digits(), train, test)
    return float(trainer.callback_metrics["accuracy"])


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")

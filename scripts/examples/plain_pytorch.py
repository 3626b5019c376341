"""Train a small network in plain PyTorch on batches that are augmented whole, on the device.

Run: python scripts/examples/plain_pytorch.py        (about 10 seconds on a CPU, nothing is downloaded)

Only the line that makes the AugmentedLoader is new; everything else is ordinary PyTorch. The digits carry their
sample index, so every draw follows from (seed, epoch, index): another batch size, order or worker count changes no
draw.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader

import robustaug

PIPELINE = """
- image.affine: {angle_deg: [-10, 10], factor: [0.9, 1.1], p: 0.5}
- compose.one_of: {of: [image.gaussian_noise, image.brightness, image.gaussian_blur]}
"""


def main(epochs: int = 8) -> float:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 10)
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    loader = DataLoader(robustaug.create("data.digits", split="train"), batch_size=64, shuffle=True)
    pipeline = robustaug.Pipeline.from_yaml(PIPELINE)
    loader = robustaug.AugmentedLoader(loader, pipeline, device=device, seed=0, progress=True)

    for _ in range(epochs):  # each pass over the loader advances the epoch, and with it the draws
        for batch in loader:
            loss = nn.functional.cross_entropy(model(batch.image.float() / 255), batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    model.eval()
    correct = total = 0
    with torch.inference_mode():
        for image, label, _ in DataLoader(robustaug.create("data.digits", split="test"), batch_size=100):
            correct += int((model(image.to(device).float() / 255).argmax(1) == label.to(device)).sum())
            total += len(label)
    return correct / total


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")

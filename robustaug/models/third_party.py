"""Models of torchvision, timm and Hugging Face, each behind the face of `Classifier`.

Weights are read as safetensors or with `weights_only=True`, which cannot run code.

Legend: B samples, C H W image, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from robustaug.models.checkpoints import load_into
from robustaug.models.classifier import Classifier
from robustaug.registry import did_you_mean, register
from robustaug.rng import torch_seed

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@register("model.torchvision", tags={"trainable"})
def torchvision_model(
    name: str,
    weights: str | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    seed: int = 0,
) -> Classifier:
    """A classifier of torchvision by name, such as "resnet18".

    Args:
        name: as in `torchvision.models.list_models(torchvision.models)`.
        weights: the path of a checkpoint, or one of torchvision's own weights ("DEFAULT", "IMAGENET1K_V1"), which
            are downloaded; fresh weights when left out.
        classes: K; 1,000 when left out.
        mean, std: normalisation inside the model, one a channel; those of ImageNet unless set, None for none.
        seed: of fresh weights.

    Raises:
        ValueError: unknown name or weights, or a checkpoint that does not fit.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(f"torchvision has no classifier {name!r}{did_you_mean(str(name), known)}")
    with torch_seed(seed):
        module = models.get_model(name, weights=None, **({} if classes is None else {"num_classes": classes}))
    published = models.get_model_weights(name).__members__
    if weights is not None and weights in published:
        entry = published[weights]
        module.load_state_dict(entry.get_state_dict(progress=False, check_hash=True, weights_only=True))
    elif weights is not None:
        _load(weights, module, f"; or one of torchvision's: {', '.join(published)}")
    return Classifier(module, mean, std, classes or 1000, name)


@register("model.timm", tags={"trainable"})
def timm_model(
    name: str, weights: str | None = None, classes: int | None = None, channels: int = 3, seed: int = 0
) -> Classifier:
    """A classifier of timm by name, such as "resnet18.a1_in1k"; normalised as timm says for it.

    Args:
        name: as in `timm.list_models()`.
        weights: the path of a checkpoint, or "pretrained" for timm's own, which are downloaded; fresh when left out.
        classes: K; the model's own number when left out.
        channels: C.
        seed: of fresh weights.

    Raises:
        ImportError: timm is not installed.
        ValueError: unknown name, or a checkpoint that does not fit.
    """
    try:
        import timm
        from timm.data.config import resolve_data_config
    except ImportError:
        raise ImportError("model.timm needs timm: pip install 'robustaug[timm]'") from None
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}{did_you_mean(str(name), timm.list_models())}")
    sizes: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    with torch_seed(seed):
        module: Any = timm.create_model(name, pretrained=weights == "pretrained", in_chans=channels, **sizes)
    if weights not in (None, "pretrained"):
        _load(weights, module, '; or "pretrained"')
    config = resolve_data_config({}, model=module)
    fits = len(config["mean"]) == channels
    mean, std = (config["mean"], config["std"]) if fits else (None, None)
    return Classifier(module, mean, std, module.num_classes, name)


class _Resized(nn.Module):
    """Resize images to the one size a model takes, bilinear and antialiased, then run it."""

    def __init__(self, module: nn.Module, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.module = module
        self.size = size

    def forward(self, x: Tensor) -> Any:
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True, align_corners=False)
        return self.module(x)


@register("model.huggingface")
def huggingface_model(name: str) -> Classifier:
    """An image classifier of Hugging Face transformers: a local folder, or a name on the hub.

    Normalisation and input size come from its image processor. Images of another size are resized inside the model
    (bilinear, antialiased, without the processor's centre crop), so that attacks see through the resizing.
    Only safetensors weights and transformers' own code are used.

    Args:
        name: a folder with config.json and model.safetensors, or "owner/model" on the hub.

    Raises:
        ImportError: transformers is not installed.
        ValueError: no such model, weights in another format, or weights that do not fill the model.
    """
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError:
        raise ImportError("model.huggingface needs transformers: pip install 'robustaug[huggingface]'") from None
    try:
        with torch_seed(0):  # what a file lacks is drawn at random before it is refused below
            module, report = AutoModelForImageClassification.from_pretrained(
                name, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
        processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot load {name!r} from Hugging Face: {' '.join(str(error).split())}") from None
    lacking = sorted(str(key) for part in ("missing_keys", "mismatched_keys") for key in report[part])
    if lacking:
        raise ValueError(f"{name!r} does not fill its model; missing or of another shape: {', '.join(lacking[:3])}")
    if getattr(processor, "rescale_offset", False):
        raise ValueError(f"{name!r} shifts its inputs to [-1, 1] (rescale_offset), which is not supported; wrap it")
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (None, None)
    model = Classifier(_Resized(module, _input_size(processor)), mean, std, module.config.num_labels, str(name))
    return model.eval()


def _load(weights: str | None, module: nn.Module, otherwise: str) -> None:
    """Load a checkpoint; where there is no such file, say what else `weights` may be."""
    if not Path(str(weights)).is_file():
        raise ValueError(f"weights must be the path of a checkpoint{otherwise}; got {weights!r}")
    load_into(str(weights), module)


def _input_size(processor: Any) -> tuple[int, int] | None:
    """Return (H, W) of what the processor hands to its model, None where it leaves the size alone."""

    def pair(size: Any) -> tuple[int, int] | None:
        get = size.get if isinstance(size, dict) else lambda key: getattr(size, key, None)
        height, width = get("height"), get("width")
        edge = get("shortest_edge")
        return (height, width) if height and width else (edge, edge) if edge else None

    crop = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
    resized = processor.size if getattr(processor, "do_resize", False) else None
    return (pair(crop) if crop else None) or (pair(resized) if resized else None)

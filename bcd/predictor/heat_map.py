"""Heat maps: which parts of an image contribute to a class, with captum.

Grad-CAM (Selvaraju et al., ICCV 2017, doi:10.1109/ICCV.2017.74) at the deepest feature map that has rows and columns. Networks
without one (vision transformers) use occlusion instead (Zeiler and Fergus, ECCV 2014, arXiv:1311.2901): parts of the image
are covered one after another. Either shows where a network looked, not why, and not whether it was right.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from bcd.models.guides import boxes_of
from bcd.models.roi import RoiCrop
from bcd.models.sizes import Padding
from bcd.predictor.networks import Member
from bcd.predictor.pipeline import batch_of
from bcd.sample import Batch
from bcd.tasks.networks import Classification, Multitask, TaskNetwork, device_of

# Occlusion covers a square of this share of the side at a time.
_WINDOW = 1 / 7
# A feature map that comes before half of the network has run is not its deepest.
_DEEP = 0.5


def heat_map(members: Sequence[Member], image: np.ndarray, mask: np.ndarray | None, target: int) -> np.ndarray:
    """Return the contribution to class number `target`, float32 (H, W) in [0, 1], as the mean over the networks.

    The highest value of each network's map is 1. The image is grey, uint8 (H, W); `mask` is binary (H, W), for ROI
    networks, None for none.

    Raises:
        ValueError: when captum is not installed.
    """
    maps = []
    for member in members:
        batch = batch_of(image, "image", mask if member.task.takes_guide else None, member.preprocess)
        given, guide = batch["image"].to(device_of(member.task)), batch["guide"].to(device_of(member.task))
        logits = logits_of(member.task, batch, guide)
        layer = deepest_map(member.task.model, logits, given, target)
        if layer is None:
            with torch.no_grad():
                window = (1, *[max(1, round(given.shape[2] * _WINDOW))] * 2)
                covered = _captum().Occlusion(logits)
                values = covered.attribute(given, window, strides=window, baselines=float(given.min()), target=target)
            attribution = values[0, 0].float().cpu().numpy()
        else:
            attribution = _grad_cam(member.task.model, logits, layer, given, guide, target)
        native = np.maximum(member.preprocess.back(np.maximum(attribution, 0).astype(np.float32), *image.shape), 0)
        maps.append(native / native.max() if native.max() > 0 else native)
    return np.asarray(np.mean(maps, axis=0), np.float32)


def logits_of(task: TaskNetwork, batch: Batch, guide: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function: image (B, 1, H, W) -> logits (B, C)."""

    def of_image(image: Tensor) -> Tensor:
        if not isinstance(task, Classification | Multitask):
            raise TypeError(f"{type(task).__name__} gives no logits of classes.")
        return task.logits(Batch(**{**batch, "image": image, "guide": guide.expand(len(image), -1, -1, -1)}))

    return of_image


def deepest_map(model: nn.Module, logits: Callable[[Tensor], Tensor], image: Tensor, target: int) -> nn.Module | None:
    """Return the last module whose output is a square feature map that the class depends on; None where it comes early."""
    seen: list[tuple[nn.Module, Any]] = []
    hooks = [module.register_forward_hook(lambda module, _, output: seen.append((module, output))) for module in model.modules()]
    try:
        with torch.enable_grad():
            score = logits(image)[0, target]
    finally:
        for hook in hooks:
            hook.remove()
    outputs = [
        (number, module, output)
        for number, (module, output) in enumerate(seen)
        if isinstance(output, Tensor) and output.requires_grad
    ]
    if not outputs:  # an exported network knows no gradients
        return None
    gradients = torch.autograd.grad(score, [output for _, _, output in outputs], allow_unused=True)
    # What runs after the class is known, such as the decoder of a multitask network, has no part in it.
    parts = [one for one, gradient in zip(outputs, gradients, strict=True) if gradient is not None]
    calls = Counter(id(module) for module, _ in seen)
    maps = [
        (number, module)
        for number, module, output in parts
        # The input is square: what is not (1, C, h, h) lies in another order.
        if output.ndim == 4 and 1 < output.shape[2] == output.shape[3]
        if calls[id(module)] == 1 and not isinstance(module, nn.Identity)
    ]
    return maps[-1][1] if maps and maps[-1][0] >= _DEEP * parts[-1][0] else None


def _grad_cam(
    model: nn.Module, logits: Callable[[Tensor], Tensor], layer: nn.Module, image: Tensor, guide: Tensor, target: int
) -> np.ndarray:
    """Return Grad-CAM in the place of the network's input, float32 (size, size)."""
    attribution = _captum().LayerGradCam(logits, layer).attribute(image, target=target, relu_attributions=True)
    cells = attribution[0, 0].detach().float().cpu().numpy()
    if isinstance(model, RoiCrop):
        return _into_box(cells, boxes_of(guide, model.margin)[0].cpu().numpy(), image.shape[2])
    size, fit = image.shape[2], getattr(model, "fit", None) or getattr(getattr(model, "network", None), "fit", None)
    padded = fit.image(image).shape[2:] if isinstance(fit, Padding) else (size, size)
    return cv2.resize(cells, (padded[1], padded[0]), interpolation=cv2.INTER_LINEAR)[:size, :size]


def _into_box(cells: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Return the map of a square box (x1, y1, x2, y2), which may reach over the edge, in its place, zero outside."""
    left, top, right, bottom = (round(float(edge)) for edge in box)
    large = cv2.resize(cells, (max(1, right - left), max(1, bottom - top)), interpolation=cv2.INTER_LINEAR)
    whole = np.zeros((size, size), np.float32)
    rows, columns = slice(max(top, 0), min(bottom, size)), slice(max(left, 0), min(right, size))
    whole[rows, columns] = large[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return whole


def _captum() -> Any:
    try:
        import captum.attr  # late: an extra, and slow to import
    except ImportError as error:
        raise ValueError('A heat map needs captum: pip install "bcd[app]".') from error
    return captum.attr

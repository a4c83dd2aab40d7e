"""The guide of an ROI model: where its mask is, and whether there is one."""

import torch
from torch import Tensor


def is_empty(guide: Tensor) -> Tensor:
    """Return which guides (B, 1, H, W) are empty: bool (B,). The mask is where the guide is at least one half."""
    return ~(guide >= 0.5).flatten(1).any(1)


def boxes_of(guide: Tensor, margin: float) -> Tensor:
    """Return the square box around each mask plus a margin, float32 (B, 4) as x1, y1, x2, y2 in pixels.

    The box is square, so that nothing is stretched, and may reach over the image's edge. An empty guide gives the whole image.

    Args:
        guide: (B, 1, H, W) in [0, 1].
        margin: on each side, as a share of the longer side of the mask's box; at least 0.
    """
    inside = (guide >= 0.5).squeeze(1)
    inside = inside | is_empty(guide)[:, None, None]
    height, width = inside.shape[1:]
    columns, rows = inside.any(1).float(), inside.any(2).float()
    left, top = columns.argmax(1), rows.argmax(1)
    right, bottom = width - columns.flip(1).argmax(1), height - rows.flip(1).argmax(1)
    side = torch.maximum(right - left, bottom - top).float()
    half = torch.where(is_empty(guide), side / 2, side * (0.5 + margin))
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    return torch.stack([center_x - half, center_y - half, center_x + half, center_y + half], dim=1)

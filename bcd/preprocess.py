"""From an original image to the network's input, and from its probability map back."""

from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from bcd.config.ranges import Positive, Side


@dataclass(frozen=True)
class Preprocess:
    """Fit to size keeping the aspect ratio, scale, standardise; and back.

    The image is resized so that it just fits into `size` x `size`, centred, and padded with black. The same object serves
    training, evaluation and prediction; it is rebuilt from the checkpoint's `run_config`.

    Args:
        size: side of the square network input in pixels.
        mean: subtracted from the grey value after scaling it to [0, 1].
        std: the divisor that follows.
    """

    size: Side
    mean: float = 0.5
    std: Positive = 0.5

    def key(self) -> str:
        """Name what the cache depends on: the geometry, not the standardisation."""
        return f"fit{self.size}"

    def config(self) -> dict[str, object]:
        """Return the constructor's arguments as a plain dict."""
        return asdict(self)

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return top, left, height and width in pixels of an original inside the square."""
        scale = self.size / max(height, width)
        fitted_height = min(self.size, max(1, round(height * scale)))
        fitted_width = min(self.size, max(1, round(width * scale)))
        return (self.size - fitted_height) // 2, (self.size - fitted_width) // 2, fitted_height, fitted_width

    def fit_image(self, image: np.ndarray) -> np.ndarray:
        """Resize and pad a grey image: uint8 (H, W) -> uint8 (size, size)."""
        return self._place(image, image)

    def fit_mask(self, mask: np.ndarray) -> np.ndarray:
        """Resize and pad a mask: (H, W) in {0, 1} -> uint8 (size, size) in {0, 1}; a pixel is lesion when half of it is."""
        return (self._place(mask.astype(np.float32), mask) >= 0.5).astype(np.uint8)

    def standardise(self, image: np.ndarray) -> Tensor:
        """Turn fitted uint8 (size, size) into the network's float32 (1, size, size)."""
        scaled = (image.astype(np.float32) * np.float32(1 / 255) - np.float32(self.mean)) / np.float32(self.std)
        return torch.from_numpy(scaled)[None]

    def back(self, probability: np.ndarray, height: int, width: int) -> np.ndarray:
        """Bring a probability map back: float32 (size, size) -> float32 (height, width) of the original image."""
        top, left, fitted_height, fitted_width = self.box(height, width)
        inside = np.ascontiguousarray(probability[top : top + fitted_height, left : left + fitted_width])
        return cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR)

    def _place(self, array: np.ndarray, original: np.ndarray) -> np.ndarray:
        top, left, height, width = self.box(*original.shape)
        shrinks = height < original.shape[0]
        resized = cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        square = np.zeros((self.size, self.size), dtype=array.dtype)
        square[top : top + height, left : left + width] = resized
        return square

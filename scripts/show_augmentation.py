"""Draw augmented images: python scripts/show_augmentation.py augmentation=ultrasound data=busi."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("show_augmentation")
def main(config: dict[str, Any], folder: Path) -> None:
    """Draw a sheet: one case per row, the original first, then its augmented versions, each with the lesion's contour."""
    from bcd.runs.training.show_augmentation import show_augmentation  # keeps --help fast

    show_augmentation(config)


if __name__ == "__main__":
    main()

"""What a prediction contains: the same options for the page, the service and the command line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PredictOptions:
    """What a prediction contains besides the classification and the segmentation.

    Args:
        point: operating point; None for the bundle's own.
        mask_threshold: a pixel is lesion from this probability on, in (0, 1); None for the bundle's own.
        uncertainty: estimate it; takes several times as long.
        heat_map: of the predicted class; takes longer.

    Raises:
        ValueError: for a threshold outside (0, 1).
    """

    point: str | None = None
    mask_threshold: float | None = None
    uncertainty: bool = False
    heat_map: bool = False

    def __post_init__(self) -> None:
        """Check the threshold."""
        if self.mask_threshold is not None and not 0 < self.mask_threshold < 1:
            raise ValueError(f"mask_threshold={self.mask_threshold} must lie between 0 and 1.")

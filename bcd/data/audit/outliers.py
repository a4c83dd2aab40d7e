"""Odd masks, and images far from the rest of their data set."""

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.covariance import MinCovDet

# Shares of the image below and above which a mask is odd: one lesion in a thousand is smaller, or larger.
TINY, LARGE = 0.0015, 0.6
# A hole or a further piece counts from this share of the lesion on.
SPECK = 0.002
MARGIN_PX = 1
# Robust deviations of the logarithm of the distance from which on an image is far from the rest.
FAR = 3.0
FITTED = 5000
RIDGE = 0.25

FEATURES = (
    "aspect ratio", "mean grey level", "contrast", "black share", "white share", "top against middle", "bottom against middle",
    "left against right", "fine texture", "coarse texture", "layering", "distinct grey levels",
)  # fmt: skip

Grey = NDArray[np.uint8]


def unusual_mask(mask: Grey) -> dict[str, tuple[float, str]]:
    """Return what is odd about a mask, uint8 (H, W) in {0, 1}: kind -> (value, in words); nothing about an empty one."""
    area = int(np.count_nonzero(mask))
    if not area:
        return {}
    odd = {}
    share = area / mask.size
    if share < TINY:
        odd["mask_tiny"] = (share, f"{area} pixels, {share:.2%} of the image")
    if share > LARGE:
        odd["mask_large"] = (share, f"{share:.0%} of the image")
    connected = _areas(mask, connectivity=8)
    pieces = [size for size in connected if size >= SPECK * area]
    specks = len(connected) - len(pieces)
    if len(pieces) > 1 or specks:
        odd["mask_pieces"] = (len(pieces), _counted(len(pieces), "piece") + (f" and {_counted(specks, 'speck')}" if specks else ""))
    # Padded, so that the background around the lesion is one piece; it is taken for the largest, the others for holes.
    background = _areas(np.pad(1 - mask, 1, constant_values=1), connectivity=4)
    holes = [size for size in background[1:] if size >= SPECK * area]
    if holes:
        odd["mask_holes"] = (len(holes), f"{_counted(len(holes), 'hole')}, {sum(holes) / area:.1%} of the lesion")
    edges = {"top": mask[:MARGIN_PX], "bottom": mask[-MARGIN_PX:], "left": mask[:, :MARGIN_PX], "right": mask[:, -MARGIN_PX:]}
    sides = [name for name, edge in edges.items() if edge.any()]
    if sides:
        odd["mask_border"] = (len(sides), f"touches the {', '.join(sides)} edge")
    return odd


def image_features(image: Grey) -> NDArray[np.float64]:
    """Return the FEATURES of a grey image, uint8 (H, W), by which images of another kind stand out: float64 (12,)."""
    small = np.asarray(cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA), np.float64)
    middle = small[43:85].mean() + 1
    across, down = np.abs(np.diff(small, axis=1)).mean() + 0.1, np.abs(np.diff(small, axis=0)).mean() + 0.1
    blurred = cv2.GaussianBlur(small, (0, 0), 2)
    coarse = blurred - cv2.GaussianBlur(small, (0, 0), 8)
    levels = np.bincount(image.ravel(), minlength=256) / image.size
    return np.array(
        [
            np.log(image.shape[1] / image.shape[0]),
            small.mean(),
            small.std(),
            levels[:6].sum(),
            levels[250:].sum(),
            np.log((small[:43].mean() + 1) / middle),
            np.log((small[85:].mean() + 1) / middle),
            np.log((small[:, :64].mean() + 1) / (small[:, 64:].mean() + 1)),
            np.log((small - blurred).std() + 0.1),
            np.log(coarse.std() + 0.1),
            np.log(down / across),
            -(levels[levels > 0] * np.log2(levels[levels > 0])).sum(),
        ]
    )


def outliers(features: NDArray[np.float64]) -> pd.DataFrame:
    """Return one row per image: `score` and `feature`, the one that is most unlike the others; features are float64 (N, F).

    The score is the Mahalanobis distance from the bulk of the images (minimum covariance determinant: Rousseeuw and Van Driessen,
    Technometrics 41 (1999) 212, doi:10.1080/00401706.1999.10485670), its logarithm in robust deviations from the median; images
    from FAR on are far from the rest. With fewer than ten images per feature every score is 0.
    """
    n_images, n_features = features.shape
    if n_images < 10 * n_features:
        return pd.DataFrame({"score": np.zeros(n_images), "feature": [""] * n_images})
    centre = np.median(features, axis=0)
    spread = 1.4826 * np.median(np.abs(features - centre), axis=0)
    standard = (features - centre) / np.maximum(spread, 0.5 * features.std(axis=0) + 1e-6)
    standard = np.sign(standard) * np.log1p(np.abs(standard))  # one wild feature must not hide the others
    # A ridge: a feature that hardly varies (one size of image) has next to no covariance, and the first that differs would win.
    standard += np.random.default_rng(0).normal(scale=RIDGE, size=standard.shape)
    chosen = np.random.default_rng(0).permutation(n_images)[:FITTED]
    distance = np.log(MinCovDet(random_state=0, support_fraction=0.8).fit(standard[chosen]).mahalanobis(standard) + 1e-9) / 2
    deviation = 1.4826 * np.median(np.abs(distance - np.median(distance)))
    names = [FEATURES[index] for index in np.abs(standard).argmax(axis=1)]
    return pd.DataFrame({"score": (distance - np.median(distance)) / max(deviation, 1e-9), "feature": names})


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _areas(mask: Grey, connectivity: int) -> list[int]:
    """Return the area of each connected piece, largest first."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)
    return [int(area) for area in sorted(stats[1:, cv2.CC_STAT_AREA].tolist(), reverse=True)]

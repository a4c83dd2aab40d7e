"""Is one image a copy of another? Register it to the other, then correlate the speckle.

Speckle identifies one frame: another frame, even of the same lesion a moment later, has other speckle, while crop,
scale, contrast and burnt-in marks leave it in place. So the images are aligned (an affine transform from the hashes' windows or
from ORB key points, refined by ECC: Evangelidis and Psarakis, IEEE PAMI 30 (2008) 1858, doi:10.1109/TPAMI.2008.113), brightness
and contrast are evened out locally, and the similarity is the median of the correlations of small tiles: marks spoil few tiles.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 256
COARSE_PX = 128
TILE_PX = 24
# A tile counts when both have texture there (variance after local normalisation, about 1 in speckle and 0 in black margins).
TEXTURE = 0.15
TILES = 6
OVERLAP = 0.5
KEYPOINTS = 300
INLIERS = 10
GLANCE_PX = 48
# Correlation of the thumbnails, unaligned, below which a pair is given up: BUSI's and BUS-BRA's copies start at 0.47.
GLANCE = 0.4
# Coarse correlation below which an alignment is not refined: chance alignments of different images stay below it.
PROMISING = 0.4

Grey = NDArray[np.uint8]
Map = NDArray[np.float32]
Thumbnail = NDArray[np.int8]
Transform = NDArray[np.float32]
Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Portrait:
    """The data of an image for comparisons.

    Args:
        grey: uint8 (h, w), the longer side SIDE_PX.
        coarse: float32, locally normalised, the longer side COARSE_PX.
        points: float32 (K, 2), key points (x, y) in grey.
        descriptors: uint8 (K, 32).
        native_px: longer side of the image as it came.
    """

    grey: Grey
    coarse: Map
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    native_px: int


@dataclass(frozen=True)
class Likeness:
    """How similar two images are once aligned.

    Args:
        similarity: median correlation of the tiles, in [-1, 1]; near 1 for a copy, below 0.35 for unrelated images.
        overlap: share of the smaller image that the other covers, in [0, 1].
    """

    similarity: float
    overlap: float


UNLIKE = Likeness(0.0, 0.0)


def portray(image: Grey) -> Portrait:
    """Return what comparisons need of a grey image, uint8 (H, W)."""
    grey = _resize(image, SIDE_PX)
    orb = cv2.ORB.create(KEYPOINTS, scaleFactor=1.2, nlevels=5, edgeThreshold=15, fastThreshold=7)  # one a call: threads share none
    keypoints, descriptors = orb.detectAndCompute(grey, None)
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2)
    if descriptors is None:
        descriptors = np.empty((0, 32), np.uint8)
    coarse = _normalise(_resize(grey, COARSE_PX), 1.0, 6.0)
    return Portrait(grey, coarse, points, np.asarray(descriptors, np.uint8), max(image.shape))


def thumbnail(image: Grey) -> Thumbnail:
    """Return a grey image, uint8 (H, W), locally normalised: int8, the longer side GLANCE_PX, for `glance`; under 3 kB."""
    small = _normalise(_resize(_resize(image, SIDE_PX), GLANCE_PX), 1.0, 6.0)
    return np.asarray(np.clip(small * 32, -127, 127), np.int8)


def glance(first: Thumbnail, second: Thumbnail, window: Window = (0.0, 0.0, 0.0, 0.0)) -> float:
    """Return the correlation, in [-1, 1], of a window of the first thumbnail with the whole second; see `compare`."""
    (height, width), (left, top, right, bottom) = first.shape, window
    part = first[round(top * height) : height - round(bottom * height), round(left * width) : width - round(right * width)]
    whole = cv2.resize(second.astype(np.float32), part.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return float(cv2.matchTemplate(whole, part.astype(np.float32), cv2.TM_CCOEFF_NORMED)[0, 0])


def compare(first: Portrait, second: Portrait, window: Window = (0.0, 0.0, 0.0, 0.0)) -> Likeness:
    """Return how similar two images are.

    `window`, shares (left, top, right, bottom) to trim off `first`, is a first guess of what `second` shows.
    """
    if first.grey.shape == second.grey.shape and np.array_equal(first.grey, second.grey):
        return Likeness(1.0, 1.0)
    best = max(UNLIKE, _refine(first, second, _from_window(first, second, window)), key=_similarity)
    if best.similarity > 0.9 or (transform := _from_keypoints(first, second)) is None:
        return best
    return max(best, _refine(first, second, transform), key=_similarity)


def _similarity(likeness: Likeness) -> float:
    return likeness.similarity


def _refine(first: Portrait, second: Portrait, transform: Transform) -> Likeness:
    """Return the likeness after coarse and fine alignment; UNLIKE as soon as a match is ruled out."""
    half = COARSE_PX / SIDE_PX
    coarse = _ecc(first.coarse, second.coarse, _scaled(transform, half))
    if _correlation(first.coarse, second.coarse, coarse) < PROMISING:
        return UNLIKE
    # The coarser of the two decides which detail both can show.
    blur_px = max(1.0, 0.8 * SIDE_PX / min(first.native_px, second.native_px))
    maps = [_normalise(portrait.grey, blur_px, 6.0 * blur_px) for portrait in (first, second)]
    start = _scaled(coarse, 1 / half)
    fine = (_likeness(first, second, maps, aligned, blur_px) for aligned in (start, _ecc(maps[0], maps[1], start)))
    return max(fine, key=_similarity)


def _from_window(first: Portrait, second: Portrait, window: Window) -> Transform:
    """Return the transform, from points of `first` to points of `second`, that lays the window on the whole of `second`."""
    (height, width), (target_height, target_width) = first.grey.shape, second.grey.shape
    left, top, right, bottom = window
    x_scale = target_width / ((1 - left - right) * width)
    y_scale = target_height / ((1 - top - bottom) * height)
    return np.array([[x_scale, 0, -left * width * x_scale], [0, y_scale, -top * height * y_scale]], np.float32)


def _from_keypoints(first: Portrait, second: Portrait) -> Transform | None:
    """Return the transform that most matched key points agree on; None when too few do, or it turns or squashes the image."""
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(first.descriptors, second.descriptors)
    if len(matches) < INLIERS:
        return None
    source = first.points[[match.queryIdx for match in matches]]
    target = second.points[[match.trainIdx for match in matches]]
    transform, inliers = cv2.estimateAffine2D(source, target, ransacReprojThreshold=3.0, maxIters=500)
    if transform is None or inliers.sum() < INLIERS:
        return None
    agreed = np.asarray(transform, np.float32)
    return agreed if _plausible(agreed) else None


def _plausible(transform: Transform) -> bool:
    """Return whether a transform is what exports do: a scale for each axis, hardly a turn."""
    (a, b), (c, d) = transform[:, :2]
    return bool(0.5 < a < 2 and 0.5 < d < 2 and abs(b) < 0.15 and abs(c) < 0.15)


def _ecc(first: Map, second: Map, transform: Transform) -> Transform:
    """Return the transform refined; unchanged where the refinement fails or runs away."""
    everywhere = np.full(second.shape, 255, np.uint8)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
    try:
        _, converged = cv2.findTransformECC(first, second, transform.copy(), cv2.MOTION_AFFINE, stop, everywhere, 5)
    except cv2.error:  # "the algorithm stopped before its convergence": not an alignment
        return transform
    refined = np.asarray(converged, np.float32)
    return refined if _plausible(refined) else transform


def _likeness(first: Portrait, second: Portrait, maps: list[Map], transform: Transform, blur_px: float) -> Likeness:
    warped, covered = _warp(maps[1], transform, maps[0].shape)
    overlap = float(min(1.0, covered.sum() / min(first.grey.size, second.grey.size / np.linalg.det(transform[:, :2]))))
    correlations = _tiles(maps[0], warped, covered, round(TILE_PX * blur_px))
    if overlap < OVERLAP or len(correlations) < TILES:
        return Likeness(0.0, overlap)
    return Likeness(float(np.median(correlations)), overlap)


def _tiles(first: Map, second: Map, covered: NDArray[np.bool_], side_px: int) -> NDArray[np.float32]:
    """Return the correlation of each covered tile with texture in both images, float32 (T,)."""
    rows, columns = (length // side_px for length in first.shape)

    def cut(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
        tiles = pixels[: rows * side_px, : columns * side_px].reshape(rows, side_px, columns, side_px)
        return np.asarray(tiles.swapaxes(1, 2).reshape(rows * columns, side_px * side_px), np.float32)

    ours, theirs = cut(first), cut(second)
    ours, theirs = ours - ours.mean(1, keepdims=True), theirs - theirs.mean(1, keepdims=True)
    variance, other = (ours**2).mean(1), (theirs**2).mean(1)
    use = (cut(covered).mean(1) > 0.8) & (np.minimum(variance, other) > TEXTURE)
    return np.asarray(((ours * theirs).mean(1) / np.sqrt(variance * other + 1e-6))[use], np.float32)


def _correlation(first: Map, second: Map, transform: Transform) -> float:
    """Return the correlation over the overlap, in [-1, 1]; 0 where they overlap too little."""
    warped, covered = _warp(second, transform, first.shape)
    if covered.mean() < OVERLAP / 2:
        return 0.0
    ours, theirs = first[covered], warped[covered]
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    return float((ours * theirs).mean() / np.sqrt((ours**2).mean() * (theirs**2).mean() + 1e-6))


def _warp(second: Map, transform: Transform, shape: tuple[int, ...]) -> tuple[Map, NDArray[np.bool_]]:
    """Return `second` laid over an image of that shape, and where it covers it."""
    size = (shape[1], shape[0])
    warped = cv2.warpAffine(second, transform, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    ones = np.ones(second.shape, np.uint8)
    covered = cv2.warpAffine(ones, transform, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return np.asarray(warped, np.float32), covered > 0


def _normalise(grey: Grey, blur_px: float, local_px: float) -> Map:
    """Return the texture with local mean 0 and local deviation about 1, so that gain and gamma hardly matter."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), blur_px)
    centred = smooth - cv2.GaussianBlur(smooth, (0, 0), local_px)
    variance = cv2.GaussianBlur(centred**2, (0, 0), local_px)
    return np.asarray(centred / np.sqrt(variance + 9.0), np.float32)


def _resize(image: Grey, side_px: int) -> Grey:
    scale = side_px / max(image.shape)
    size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8)


def _scaled(transform: Transform, factor: float) -> Transform:
    """Return the transform for images resized by the factor."""
    scaled = transform.copy()
    scaled[:, 2] *= factor
    return scaled

"""A mask corrected by hand: painted in the browser, and checked before it is used."""

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from streamlit.components.v2 import component

from bcd.app.images.drawing import png

# What is drawn on is no larger: a hand has no finer touch, and browsers on tablets have little memory.
LONGEST_PX = 1024
_HEAD = "data:image/png;base64,"
_MOST_BYTES = 8 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_PARTS = Path(__file__).parent / "static"


def mount(image: np.ndarray, mask: np.ndarray, key: str) -> np.ndarray | None:
    """Show the image with its mask to paint on; return the mask when the user confirms it.

    Args:
        image: grey, uint8 (H, W).
        mask: bool (H, W), to begin with.
        key: of the drawing, unlike that of any other on the page.

    Returns:
        Bool (H, W), once, in the run that follows the click; else None.

    Raises:
        ValueError: when what comes back is no such mask.
    """
    height, width = drawn_size(image.shape)
    small = cv2.resize(mask.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_NEAREST)
    shown = {
        "id": hashlib.sha256(key.encode() + np.packbits(mask).tobytes()).hexdigest(),
        "image": _url(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)),
        "mask": _url(np.repeat(small[..., None], 4, axis=2)),  # white on nothing, BGRA
        "width": width,
        "height": height,
    }
    # Again at each run, because a server that registered it in one run may have lost it by the next (as in tests).
    html, css, js = ((_PARTS / f"canvas.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    canvas = component("bcd_mask", html=html, css=css, js=js)
    sent = canvas(key=key, data=shown, on_mask_change=lambda: None).mask
    return None if sent is None else mask_of(sent, (image.shape[0], image.shape[1]))


def drawn_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return height and width at which an image of a shape (H, W) is drawn on."""
    scale = min(1.0, LONGEST_PX / max(shape[:2]))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def mask_of(sent: Any, shape: tuple[int, int]) -> np.ndarray:
    """Return what the browser sent as a mask, bool (H, W); anybody may have sent it, so everything is checked.

    Args:
        sent: a mapping with `png`, a data URL of a picture of `drawn_size(shape)`; opaque pixels are lesion.
        shape: of the image, (H, W).

    Raises:
        ValueError: when it is no such picture.
    """
    content = _content(sent)
    size = drawn_size(shape)
    # The header before the pixels: a short PNG can claim billions of them.
    claimed = (int.from_bytes(content[20:24], "big"), int.from_bytes(content[16:20], "big"))
    if content[:8] != _PNG or claimed != size:
        raise ValueError("The mask that came back does not fit the image; draw it again.")
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.shape[:2] != size:
        raise ValueError("The mask that came back cannot be read; draw it again.")
    opaque = (pixels[..., 3] > 127).astype(np.uint8)
    return np.asarray(cv2.resize(opaque, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)).astype(bool)


def _content(sent: Any) -> bytes:
    url = sent.get("png") if hasattr(sent, "get") else None
    if not isinstance(url, str) or not url.startswith(_HEAD) or len(url) > _MOST_BYTES:
        raise ValueError("The mask that came back is no image; draw it again.")
    try:
        return base64.b64decode(url.removeprefix(_HEAD), validate=True)
    except binascii.Error as error:
        raise ValueError("The mask that came back is damaged; draw it again.") from error


def _url(picture: np.ndarray) -> str:
    content = png(picture) if picture.ndim == 2 else cv2.imencode(".png", picture)[1].tobytes()
    return _HEAD + base64.b64encode(content).decode()

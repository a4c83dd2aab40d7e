"""From the values that a DICOM file stores to the grey values that a display would show."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bcd.images.dicom.frames import Layout
from bcd.images.dicom.header import within_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset


class Display:
    """Turns stored values to grey, uint8, in the order of the standard (PS3.4 N.2): modality, values of interest, presentation.

    Grey: the rescale or modality lookup table; then the first VOI lookup table, else the first window (LINEAR, LINEAR_EXACT or
    SIGMOID), else the full range of the bits stored; 0 is black and 255 white. MONOCHROME1 is inverted at the end. Eight bits
    without a window stay exactly what they are. A window of no width is left out.

    Colour: YBR becomes RGB, a palette its colours; more than 8 bits are scaled from the full range; grey is luma (ITU-R 601), as
    for pictures. Overlays, presentation states and colour profiles are not applied.

    Raises:
        ImageError: for lookup tables or windows that cannot be read.
    """

    def __init__(self, header: "Dataset", layout: Layout) -> None:
        self._header, self._layout = header, layout
        with within_pydicom(layout.name, "its lookup tables or windows are damaged"):
            is_grey = layout.photometric.startswith("MONO")
            # The grey of each code of a value, uint8 (2 ** bits_stored,).
            self._table = _grey_table(header, layout) if is_grey else _to_8_bit(np.linspace(0, 1, 2**layout.bits_stored))

    def grey_and_colour(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a frame's grey values, uint8 (H, W), and RGB, uint8 (H, W, 3), where it is no grey file."""
        if self._layout.photometric == "PALETTE COLOR":
            values = self._palette(values)
        else:
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
            codes = values.view(f"u{values.dtype.itemsize}") & (len(self._table) - 1)
            values = self._table[codes]
        if values.ndim == 2:
            return values, None
        return np.asarray(Image.fromarray(values).convert("L")), values

    def _palette(self, values: np.ndarray) -> np.ndarray:
        from pydicom.pixels import apply_color_lut  # late: keeps --help fast

        with within_pydicom(self._layout.name, "its palette is damaged, or in segments, which are not read"):
            if "SegmentedRedPaletteColorLookupTableData" in self._header:
                raise ValueError("a few bytes of a segment may unfold to 65535 entries each")
            colours = apply_color_lut(values, self._header)
            return np.asarray(colours >> 8 if colours.dtype == np.uint16 else colours, dtype=np.uint8)[..., :3]


def _grey_table(header: "Dataset", layout: Layout) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi  # late: keeps --help fast

    codes = np.arange(2**layout.bits_stored, dtype=np.int32)
    stored = np.where(codes >= len(codes) // 2, codes - len(codes), codes) if layout.signed else codes
    modality = apply_modality_lut(stored, header)
    if header.get("VOILUTSequence"):
        depth = int(header.VOILUTSequence[0].LUTDescriptor[2])
        presented = apply_voi(np.rint(modality).astype(np.int32), header) / (2.0**depth - 1)
    else:
        window = _window(header)
        low, high = float(modality.min()), float(modality.max())
        presented = (modality - low) / (high - low) if window is None else _windowed(modality, *window)
    return _to_8_bit(1 - presented if layout.photometric == "MONOCHROME1" else presented)


def _window(header: "Dataset") -> tuple[float, float, str] | None:
    """Return centre, width and function of the first window; None without one, or for one of no width."""
    first = [np.atleast_1d(np.asarray(header.get(keyword), dtype=float)) for keyword in ("WindowCenter", "WindowWidth")]
    if not all(values.size and np.isfinite(values[0]) for values in first):
        return None
    centre, width = (float(values[0]) for values in first)
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    return (centre, width, function) if width > (function == "LINEAR") else None


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Return 0 to 1 as PS3.3 C.11.2.1 has it."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.asarray((values - centre) / width + 0.5)
    if function == "LINEAR":
        return np.asarray((values - (centre - 0.5)) / (width - 1) + 0.5)
    raise ValueError("an unknown VOI LUT function")


def _to_8_bit(presented: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(presented, 0, 1) * 255).astype(np.uint8)

"""DICOM files made on the fly, in every transfer syntax that can be written here."""

import io
import struct
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
LOSSLESS = (RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1)

# What names the patient, in every tag that does.
NAME, NUMBER, BIRTH = "DOE^JANE", "PAT-4711", "19600229"
PATIENT = {
    "PatientName": NAME,
    "PatientID": NUMBER,
    "PatientBirthDate": BIRTH,
    "OtherPatientIDs": NUMBER,
    "OtherPatientNames": NAME,
    "PatientBirthName": NAME,
    "PatientMotherBirthName": NAME,
    "PatientAddress": f"{NAME} ROAD",
    "PatientTelephoneNumbers": NUMBER,
    "PatientComments": NAME,
    "AdditionalPatientHistory": NAME,
    "AccessionNumber": NUMBER,
    "StudyID": NUMBER,
    "StudyDescription": NAME,
    "SeriesDescription": NAME,
    "ReferringPhysicianName": NAME,
    "OperatorsName": NAME,
    "InstitutionName": NAME,
    "ImageComments": f"{NAME} {NUMBER}",
}
IDENTIFIERS = ("doe", "jane", "4711", BIRTH)


def speckle(shape: tuple[int, ...], depth: int = 256, seed: int = 0) -> np.ndarray:
    """Return noise on a slope, 0 to depth - 1, of (H, W) or (H, W, 3)."""
    slope = np.linspace(0, 0.8, shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))
    values = slope + 0.2 * np.random.default_rng(seed).random(shape)
    return (values * (depth - 1)).round().astype(np.uint8 if depth <= 256 else np.uint16)


def dicom(pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, streams: list[bytes] | None = None, **tags: Any) -> bytes:
    """Return a DICOM file.

    Args:
        pixels: (H, W) or (H, W, 3); a list of several as (frames, H, W) with `NumberOfFrames` among the tags.
        syntax: transfer syntax.
        streams: what to store for the frames; encoded from the pixels by default.
        tags: by keyword; None leaves one out.
    """
    frames = list(pixels) if "NumberOfFrames" in tags else [pixels]
    header = _header(frames[0], syntax, len(frames))
    for keyword, value in tags.items():
        if value is None:
            header.pop(keyword, None)
        else:
            setattr(header, keyword, value)
    if "PixelData" not in tags:
        if header.file_meta.TransferSyntaxUID.is_encapsulated:
            header.PixelData = encapsulate(streams or [encoded(frame, syntax, header) for frame in frames])
        else:
            order = ">" if syntax == ExplicitVRBigEndian else "<"
            body = b"".join(frame.astype(frame.dtype.newbyteorder(order)).tobytes() for frame in frames)
            header.PixelData = b"".join(streams) if streams else body + b"\0" * (len(body) % 2)
        header["PixelData"].VR = "OB" if header.BitsAllocated == 8 else "OW"
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _header(frame: np.ndarray, syntax: str, n_frames: int) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.SOPClassUID = UltrasoundMultiFrameImageStorage if n_frames > 1 else UltrasoundImageStorage
    header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID = "1.2.3.4.5", "1.2.3.4", "1.2.3"
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    for keyword, value in PATIENT.items():
        setattr(header, keyword, value)
    header.Modality = "US"
    header.Rows, header.Columns = frame.shape[:2]
    header.SamplesPerPixel = 3 if frame.ndim == 3 else 1
    header.PhotometricInterpretation = "RGB" if frame.ndim == 3 else "MONOCHROME2"
    if frame.ndim == 3:
        header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = 8 * frame.dtype.itemsize
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(frame.dtype.kind == "i")
    return header


def region(left: int, top: int, right: int, bottom: int, delta: float = 0.01, **tags: Any) -> Dataset:
    """Return an item of SequenceOfUltrasoundRegions: 2-D tissue, cm."""
    item = Dataset()
    item.RegionSpatialFormat = item.RegionDataType = item.RegionFlags = 1
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta, 2 * delta
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def encoded(frame: np.ndarray, syntax: str, header: Dataset | None = None) -> bytes:
    """Return the compressed stream of a frame."""
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        stream = jpeg(frame)
        return stream.replace(b"\xff\xc0", b"\xff\xc1", 1) if syntax == JPEGExtended12Bit else stream
    if syntax == JPEGLosslessSV1:
        return jpeg_lossless(frame)
    header = _header(frame, syntax, 1) if header is None else header
    return get_encoder(syntax).encode(
        frame.tobytes(),
        rows=frame.shape[0],
        columns=frame.shape[1],
        samples_per_pixel=header.SamplesPerPixel,
        photometric_interpretation="YBR_RCT"
        if syntax == JPEG2000Lossless and frame.ndim == 3
        else header.PhotometricInterpretation,
        planar_configuration=0,
        pixel_representation=header.PixelRepresentation,
        bits_allocated=header.BitsAllocated,
        bits_stored=header.BitsStored,
        number_of_frames=1,
    )


def jpeg(frame: np.ndarray, quality: int = 90) -> bytes:
    """Return a baseline JPEG."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return file.getvalue()


def jpeg_lossless(frame: np.ndarray) -> bytes:
    """Return a lossless JPEG (process 14, predictor 1) of grey, (H, W): each difference from the left as its length and bits."""
    depth = 8 * frame.dtype.itemsize
    values = frame.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << (depth - 1)
    bits = []
    for difference in ((values - predicted + 32768) % 65536 - 32768).ravel().tolist():
        length = abs(difference).bit_length()
        extra = difference if difference >= 0 else difference + (1 << length) - 1
        bits.append(f"{length:05b}" + (f"{extra:0{length}b}" if 0 < length < 16 else ""))
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    body = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    table = b"\xff\xc4" + struct.pack(">H", 2 + 1 + 16 + 17) + b"\0" + bytes([0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17))
    size = b"\xff\xc3" + struct.pack(">HBHHB", 11, depth, *frame.shape, 1) + b"\1\x11\0"
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\1\0" + b"\1\0\0"
    return b"\xff\xd8" + table + size + scan + body + b"\xff\xd9"

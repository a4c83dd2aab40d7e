"""Masks as DICOM segmentation objects, which archives and viewers lay over the image that they came from."""

import io
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import bcd
from bcd.files import write_bytes
from bcd.images.decode import ImageError
from bcd.images.dicom.header import within_pydicom
from bcd.images.scan import DicomSource, Scan, uncrop

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset

# What points back at the source; without one of them an archive cannot tell which image the masks lie on.
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
# What the standard wants to be there, empty where it is unknown.
_EMPTY_IF_UNKNOWN = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
_LONGEST_NAME = 64
_SERIES_NUMBER = 8700


def write_seg(path: Path, masks: Sequence[np.ndarray], scans: Sequence[Scan], model_name: str) -> None:
    """Write `seg_content` to a file, whose name is the caller's; errors as of that."""
    write_bytes(path, seg_content(masks, scans, model_name))


def seg_content(masks: Sequence[np.ndarray], scans: Sequence[Scan], model_name: str, by_hand: bool = False) -> bytes:
    """Return the masks of one DICOM file's frames as one binary DICOM SEG, whole frames, pixel for pixel.

    One segment, Lesion in the breast, found automatically by `model_name` of this version of bcd. Each frame of the SEG refers to
    its source by SOPInstanceUID and, where the source has several, by frame number; a frame without lesion is written too, empty:
    it was looked at. There is no frame of reference: ultrasound frames lie nowhere in space that is known. Distances are for the
    viewer to take from the source, whose spacing differs from region to region.

    The SEG carries patient and study of its source, as every DICOM object does.

    Args:
        masks: for each scan, binary (H, W) of the scan's image.
        scans: of one DICOM file; one or more of its frames, each once and in its order.
        model_name: of the bundle; what is longer than 64 characters is cut.
        by_hand: somebody corrected a mask; the segment is then marked as semiautomatic.

    Raises:
        ImageError: when the source lacks what a SEG needs, or highdicom is not installed.
        ValueError: when masks and scans do not match, or the scans are not of one DICOM file.
    """
    if not scans or len(masks) != len(scans):
        raise ValueError(f"{len(masks)} masks for {len(scans)} scans; give one for each, and at least one.")
    source = scans[0].source
    if source is None or any(scan.source is not source for scan in scans):
        raise ValueError(f"{scans[0].name}: a DICOM SEG is written for the frames of one DICOM file; write PNG masks for others.")
    numbers = [scan.frame or 0 for scan in scans]
    if numbers != sorted(set(numbers)):
        raise ValueError(f"{scans[0].name}: frames {numbers}; give each once, in the order of the file.")
    frames = np.stack([uncrop(np.asarray(mask).astype(bool), scan) for mask, scan in zip(masks, scans, strict=True)])
    obstacle = seg_obstacle(scans[0])
    if obstacle is not None:
        raise obstacle
    with within_pydicom(scans[0].name, "its patient or study data do not fit the standard", "write PNG masks"):
        segmentation = _first_frame(source, frames[0], model_name, by_hand)
        _add_frames(segmentation, frames, scans, source)
        content = io.BytesIO()
        segmentation.save_as(content)
    return content.getvalue()


def seg_obstacle(scan: Scan) -> ImageError | None:
    """Return why a SEG cannot refer to the source of a scan; None if it can."""
    if scan.source is None:
        return ImageError(scan.name, "it is no DICOM file, so a DICOM SEG cannot refer to it", "write PNG masks")
    try:
        import highdicom  # noqa: F401  # late: keeps --help fast
    except ImportError:
        return ImageError(scan.name, "a DICOM SEG needs highdicom", 'pip install "bcd[dicom]"')
    missing = [keyword for keyword in _NEEDED if not scan.source.dataset.get(keyword)]
    if missing:
        return ImageError(scan.name, f"its source has no {missing[0]}, so a DICOM SEG cannot refer to it", "write PNG masks")
    return None


def _first_frame(source: DicomSource, frame: np.ndarray, model_name: str, by_hand: bool) -> "Segmentation":
    """Return the SEG of one frame."""
    from highdicom import UID  # late: keeps --help fast
    from highdicom.seg import Segmentation

    name = " ".join(model_name.replace("\\", "/").split())[:_LONGEST_NAME] or "model"
    return Segmentation(
        source_images=[_stand_in(source.dataset)],
        pixel_array=frame.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[_lesion(name, by_hand)],
        series_instance_uid=UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="bcd",
        manufacturer_model_name=name,
        software_versions=bcd.__version__,
        device_serial_number=bcd.__version__,  # software has no other number
        content_label="LESION",
        content_description="Lesion segmentation; research use only",
        series_description="Lesion segmentation; research use only",
        omit_empty_frames=False,
    )


def _stand_in(dataset: "Dataset") -> "Dataset":
    """Return the source as a flat image of one frame, which is all that highdicom takes without a place in space."""
    from pydicom.uid import SecondaryCaptureImageStorage  # late: keeps --help fast

    flat = deepcopy(dataset)
    for keyword in ("NumberOfFrames", "FrameOfReferenceUID", "PixelSpacing"):
        if keyword in flat:
            del flat[keyword]
    flat.SOPClassUID = SecondaryCaptureImageStorage
    for keyword in _EMPTY_IF_UNKNOWN:
        if keyword not in flat:
            setattr(flat, keyword, "")
    return flat


def _lesion(model_name: str, by_hand: bool) -> "SegmentDescription":
    from highdicom import AlgorithmIdentificationSequence  # late: keeps --help fast
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    return SegmentDescription(
        segment_number=1,
        segment_label="Lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=SegmentAlgorithmTypeValues.SEMIAUTOMATIC if by_hand else SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=model_name, family=codes.DCM.ArtificialIntelligence, version=f"bcd {bcd.__version__}"
        ),
        anatomic_regions=[codes.SCT.Breast],
    )


def _add_frames(segmentation: "Segmentation", frames: np.ndarray, scans: Sequence[Scan], source: DicomSource) -> None:
    """Put in every frame, point each at the frame that it came from, and index several by their place in time."""
    from pydicom import Dataset  # late: keeps --help fast
    from pydicom.datadict import tag_for_keyword
    from pydicom.pixels import pack_bits

    [first] = segmentation.PerFrameFunctionalGroupsSequence
    groups = [deepcopy(first) for _ in scans]
    for group, scan in zip(groups, scans, strict=True):
        if scan.frame is not None:
            number = scan.frame + 1  # DICOM counts from 1
            group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = number
            group.FrameContentSequence[0].TemporalPositionIndex = number
    references = [group.DerivationImageSequence[0].SourceImageSequence[0] for group in groups]
    references += [*segmentation.SourceImageSequence, *segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence]
    for reference in references:
        reference.ReferencedSOPClassUID = source.dataset.SOPClassUID
    if scans[0].frame is not None:
        index = Dataset()
        index.DimensionOrganizationUID = segmentation.DimensionIndexSequence[0].DimensionOrganizationUID
        index.DimensionIndexPointer = tag_for_keyword("TemporalPositionIndex")
        index.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
        index.DimensionDescriptionLabel = "Temporal Position Index"
        segmentation.DimensionIndexSequence.append(index)
        for position, group in enumerate(groups, start=1):
            group.FrameContentSequence[0].DimensionIndexValues = [1, position]
    segmentation.PerFrameFunctionalGroupsSequence = groups
    segmentation.NumberOfFrames = len(scans)
    segmentation.PixelData = pack_bits(frames.astype(np.uint8).reshape(-1))

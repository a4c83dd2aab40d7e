import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_files import BIRTH, IDENTIFIERS, NAME, NUMBER, PATIENT, dicom, region, speckle
from pydicom.uid import RLELossless, UltrasoundImageStorage, UltrasoundMultiFrameImageStorage

import bcd
from bcd.images.decode import ImageError
from bcd.images.scan import Scan, read_scans, uncrop
from bcd.images.seg import write_seg

FRAMES = np.stack([speckle((37, 51), seed=seed) for seed in range(5)])  # frames of bits that end within a byte


def scans_of(frames: np.ndarray, **tags: Any) -> list[Scan]:
    return list(read_scans(dicom(frames, **tags), "scan.dcm"))


def cine(**tags: Any) -> list[Scan]:
    return scans_of(FRAMES, syntax=RLELossless, NumberOfFrames=len(FRAMES), **tags)


def masks_of(scans: list[Scan]) -> list[np.ndarray]:
    return [np.random.default_rng(number).random(scan.image.shape) > 0.6 for number, scan in enumerate(scans)]


def whole(masks: list[np.ndarray], scans: list[Scan]) -> np.ndarray:
    return np.stack([uncrop(mask, scan) for mask, scan in zip(masks, scans, strict=True)])


@pytest.mark.parametrize("regions", [{}, {"SequenceOfUltrasoundRegions": [region(10, 5, 40, 30)]}])
def test_the_mask_of_an_image_comes_back_pixel_for_pixel(tmp_path: Path, regions: dict[str, Any]) -> None:
    scans = scans_of(FRAMES[0], **regions)
    masks = masks_of(scans)
    write_seg(tmp_path / "mask.dcm", masks, scans, "busbra")
    seg = highdicom.seg.segread(tmp_path / "mask.dcm")
    np.testing.assert_array_equal(seg.get_pixels_by_source_instance(["1.2.3.4.5"])[..., 0], whole(masks, scans))
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "mask.dcm").pixel_array, whole(masks, scans)[0])


@pytest.mark.parametrize("chosen", [slice(None), slice(1, 4, 2), slice(3, 4)])
def test_the_masks_of_frames_come_back_by_the_number_of_their_source_frame(tmp_path: Path, chosen: slice) -> None:
    scans = cine(SequenceOfUltrasoundRegions=[region(10, 5, 40, 30)])[chosen]
    masks = masks_of(scans)
    write_seg(tmp_path / "mask.dcm", masks, scans, "busbra")
    seg = highdicom.seg.segread(tmp_path / "mask.dcm")
    numbers = [scan.frame + 1 for scan in scans if scan.frame is not None]
    np.testing.assert_array_equal(seg.get_pixels_by_source_frame("1.2.3.4.5", numbers)[..., 0], whole(masks, scans))
    stored = pydicom.dcmread(tmp_path / "mask.dcm")
    np.testing.assert_array_equal(stored.pixel_array.reshape(len(scans), 37, 51), whole(masks, scans))
    for group, number in zip(stored.PerFrameFunctionalGroupsSequence, numbers, strict=True):
        assert group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == number


def test_frames_without_lesion_are_written_too(tmp_path: Path) -> None:
    scans = cine()
    write_seg(tmp_path / "mask.dcm", [np.zeros((37, 51), np.uint8)] * 5, scans, "busbra")
    stored = pydicom.dcmread(tmp_path / "mask.dcm")
    assert stored.NumberOfFrames == 5
    assert not stored.pixel_array.any()


@pytest.mark.parametrize("several", [False, True])
def test_the_object_says_what_was_found_by_what_in_which_image(tmp_path: Path, several: bool) -> None:
    scans = cine() if several else scans_of(FRAMES[0])
    write_seg(tmp_path / "mask.dcm", masks_of(scans), scans, "a \\ name " * 20)
    stored = pydicom.dcmread(tmp_path / "mask.dcm")
    kind = UltrasoundMultiFrameImageStorage if several else UltrasoundImageStorage
    references = [
        stored.SourceImageSequence[0],
        stored.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0],
        stored.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0],
    ]
    assert {(reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) for reference in references} == {
        (kind, "1.2.3.4.5")
    }
    assert stored.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4"
    segment = stored.SegmentSequence[0]
    assert (segment.SegmentLabel, segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning) == ("Lesion", "Lesion")
    assert segment.AnatomicRegionSequence[0].CodeMeaning == "Breast"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmVersion == f"bcd {bcd.__version__}"
    assert algorithm.AlgorithmName == ("a / name " * 20)[:64].strip()
    assert stored.SegmentationType == "BINARY"
    assert "FrameOfReferenceUID" not in stored
    assert "ReferencedFrameNumber" in references[2] if several else "ReferencedFrameNumber" not in references[2]


def test_the_source_is_left_as_it_was_and_its_patient_and_study_are_carried(tmp_path: Path) -> None:
    scans = scans_of(FRAMES[0], FrameOfReferenceUID="1.2.9", PixelSpacing=[0.1, 0.1])
    assert scans[0].source is not None
    before = scans[0].source.dataset.to_json()
    write_seg(tmp_path / "mask.dcm", masks_of(scans), scans, "busbra")
    assert scans[0].source.dataset.to_json() == before
    stored = pydicom.dcmread(tmp_path / "mask.dcm")
    assert (stored.PatientName, stored.PatientID, stored.PatientBirthDate, stored.StudyInstanceUID) == (
        NAME,
        NUMBER,
        BIRTH,
        "1.2.3",
    )


def test_what_a_source_does_not_know_of_its_patient_stays_empty(tmp_path: Path) -> None:
    scans = scans_of(FRAMES[0], **dict.fromkeys(PATIENT))
    write_seg(tmp_path / "mask.dcm", masks_of(scans), scans, "busbra")
    assert pydicom.dcmread(tmp_path / "mask.dcm").PatientID == ""
    umlaut = scans_of(FRAMES[0], SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Änne")
    write_seg(tmp_path / "mask.dcm", masks_of(umlaut), umlaut, "busbra")
    assert pydicom.dcmread(tmp_path / "mask.dcm").PatientName == "Müller^Änne"


def test_another_modality_can_be_pointed_at(tmp_path: Path) -> None:
    scans = list(read_scans(Path(pydicom.__file__).parent / "data/test_files/CT_small.dcm", "CT_small.dcm"))
    masks = masks_of(scans)
    write_seg(tmp_path / "mask.dcm", masks, scans, "busbra")
    np.testing.assert_array_equal(highdicom.seg.segread(tmp_path / "mask.dcm").pixel_array, masks[0])


def test_what_cannot_be_pointed_at_is_refused_with_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "mask.dcm"
    for keyword in ("SOPInstanceUID", "StudyInstanceUID"):
        scans = scans_of(FRAMES[0], **{keyword: "1.2.77"})
        del scans[0].source.dataset[keyword]  # type: ignore[union-attr]
        with pytest.raises(ImageError, match=f"no {keyword}"):
            write_seg(path, masks_of(scans), scans, "busbra")
    scans = scans_of(FRAMES[0])
    scans[0].source.dataset.PatientBirthDate = "19600230"  # type: ignore[union-attr]
    with pytest.raises(ImageError, match="do not fit the standard") as caught:
        write_seg(path, masks_of(scans), scans, "busbra")
    assert not any(word in (str(caught.value) + caplog.text).lower() for word in IDENTIFIERS)
    assert not path.exists()


def test_masks_and_scans_must_match(tmp_path: Path) -> None:
    path, scans = tmp_path / "mask.dcm", cine()
    masks = masks_of(scans)
    with pytest.raises(ValueError, match="4 masks for 5 scans"):
        write_seg(path, masks[:4], scans, "busbra")
    with pytest.raises(ValueError, match="give one for each"):
        write_seg(path, [], [], "busbra")
    with pytest.raises(ValueError, match="one of its size"):
        write_seg(path, [mask[:, :9] for mask in masks], scans, "busbra")
    with pytest.raises(ValueError, match="in the order of the file"):
        write_seg(path, masks[:2], scans[:2][::-1], "busbra")
    with pytest.raises(ValueError, match="frames of one DICOM file"):
        write_seg(path, masks[:2], [scans[0], cine()[1]], "busbra")
    picture = replace(scans[0], source=None)
    with pytest.raises(ValueError, match="write PNG masks"):
        write_seg(path, masks[:1], [picture], "busbra")


def test_without_highdicom_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = scans_of(FRAMES[0])
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ImageError, match=r'pip install "bcd\[dicom\]"'):
        write_seg(tmp_path / "mask.dcm", masks_of(scans), scans, "busbra")

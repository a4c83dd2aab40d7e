"""The header of a DICOM file, read within limits, without logging: patient data stay in the file."""

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from bcd.images.decode import EXTENSIONS, ImageError, printable

if TYPE_CHECKING:
    from pydicom import Dataset

# How DICOM files may end; many end in nothing, and are known by their content.
DICOM_EXTENSIONS = (".dcm", ".dicom", ".dic", ".ima")

# What a header may take: ten times the largest real ones (a thousand frames described one by one). A few MB of empty items in
# sequences would become gigabytes of objects.
_READS = 500_000
_BYTES = 1 << 26
# Larger values are skipped: the largest one of use is a lookup table of 65536 entries of 16 bits.
_LARGEST_VALUE = 1 << 18

_MAGIC = b"DICM"
_PREAMBLE = 128
_PIXEL_TAGS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
_IDENTIFYING = (
    *("PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames"),
    *("PatientBirthName", "PatientMotherBirthName", "AccessionNumber"),
)
# Of a header too damaged to be read, so much is searched for words of the file's name.
_SEARCHED = 1 << 16
_EXPORT = "export it again or leave it out"
_PYDICOM = threading.RLock()
# pydicom, its decoders, and who writes SEG with it.
_LOGGING = ("pydicom", "pylibjpeg", "openjpeg", "libjpeg", "jpeg_ls", "highdicom")


class PixelData(NamedTuple):
    """Where the pixel data of a file lie.

    Args:
        tag: group and element, 0x7FE00010 for whole numbers.
        start: where their value begins, in bytes.
        length: of the value as it is written; 0xFFFFFFFF for fragments.
        vr: type of the value, OB or OW.
    """

    tag: int
    start: int
    length: int
    vr: str


class RationedFile:
    """A file that gives up after so many reads, or bytes read in all, and never sets aside memory for more than it holds.

    Errors call it by `name`.
    """

    def __init__(self, file: BinaryIO, name: str | Path, reads: int, size: int) -> None:
        self._file, self._name, self._reads, self._left = file, name, reads, size
        position = file.tell()
        self.length = file.seek(0, 2)
        file.seek(position)

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes.

        Raises:
            ImageError: when the ration is used up, or everything is asked for: pydicom does so to inflate a deflated file, which
                may unfold to a thousand times its size.
        """
        if size < 0:
            raise ImageError(self._name, "is deflated as a whole, which is not read", "store it plainly (dcmconv +te)")
        size = max(0, min(size, self.length - self._file.tell()))
        self._reads, self._left = self._reads - 1, self._left - size
        if self._reads < 0 or self._left < 0:
            raise ImageError(self._name, "its DICOM header or list of fragments is far larger than any scanner writes", _EXPORT)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position, as files do."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


def is_dicom(head: bytes) -> bool:
    """Tell from a file's first 132 bytes or more whether it is DICOM: by its mark, or by how a bare data set begins."""
    if head[_PREAMBLE : _PREAMBLE + len(_MAGIC)] == _MAGIC:
        return True
    if len(head) < 16 or head[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return False
    # The first element of group 2 or 8 has a number up to 0x18, and two capitals (its type) or a short length behind it.
    number = head[2:4] if head[:2] != b"\x00\x08" else head[3:1:-1]
    return number[1] == 0 and number[0] <= 0x18 and ((head[4:6].isalpha() and head[4:6].isupper()) or head[6:8] == b"\x00\x00")


@contextmanager
def within_pydicom(name: str | Path, reason: str, remedy: str = _EXPORT) -> Iterator[None]:
    """Turn every exception of pydicom into an ImageError of this reason.

    Its warnings, log lines and exceptions quote values of the file, which may name a patient. One thread at a time: they are
    silenced by settings of the whole process.
    """
    from pydicom import config  # late: keeps --help fast

    with _PYDICOM, warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")  # see above
        loggers = [logging.getLogger(library) for library in _LOGGING]
        levels = [log.level for log in loggers]
        for log in loggers:
            log.setLevel(logging.CRITICAL + 1)  # not `disabled`, which child loggers ignore
        try:
            yield
        except ImageError:
            raise
        except Exception:  # a parser or decoder raises anything on a hostile file
            raise ImageError(name, reason, remedy) from None
        finally:
            for log, level in zip(loggers, levels, strict=True):
                log.setLevel(level)


def read_header(file: BinaryIO, name: str | Path) -> tuple["Dataset", PixelData | None]:
    """Return the elements before the pixel data, without those that are too large to be of use, and where the pixel data lie.

    The latter is None where the header breaks off before them.

    Raises:
        ImageError: for a header that cannot be read; it has the name without words of the header.
    """
    try:
        from pydicom import Dataset  # late: keeps --help fast
        from pydicom.filereader import read_partial
    except ImportError:
        raise ImageError(name, "is DICOM, which needs pydicom", 'pip install "bcd[dicom]"') from None

    file.seek(0)
    rationed = RationedFile(file, name, _READS, _BYTES)
    pixels: list[PixelData] = []

    def ends_at(tag: int, vr: str | None, length: int) -> bool:
        if tag in _PIXEL_TAGS:
            pixels.append(PixelData(tag, rationed.tell(), length, vr or "OW"))
        return tag in _PIXEL_TAGS

    try:
        with within_pydicom(name, "its DICOM header is damaged"):
            header = read_partial(rationed, ends_at, _LARGEST_VALUE, force=True)  # type: ignore[arg-type]
            # A copy, without the file and the values that were skipped; any other way than values() would read those.
            skipped = {
                element.tag
                for element in header.values()
                if getattr(element, "value", 0) is None and getattr(element, "length", 0) > _LARGEST_VALUE
            }
            bare = Dataset({element.tag: element for element in header.values() if element.tag not in skipped})
            bare.file_meta = header.file_meta
            implicit, little = header.original_encoding
            bare.set_original_encoding(implicit, little, header.original_character_set)
            return bare, pixels[-1] if pixels else None
    except ImageError as error:
        raise ImageError(without_words_of(str(name), file), error.reason, error.remedy) from None


def text_of(header: "Dataset", keyword: str, name: str | Path) -> str | None:
    """Return the text of an element, None where there is none.

    Raises:
        ImageError: when it cannot be read.
    """
    with within_pydicom(name, f"its {keyword} is damaged"):
        value = header.get(keyword)
        return str(value) if value else None


def without_identifiers(text: str, header: "Dataset") -> str:
    """Return a text, such as a path, in which what names the patient is replaced by the word hidden.

    Parts of names, numbers and dates of three characters and more are looked for in any case of letters. A file that says that
    its identity was removed (PatientIdentityRemoved) keeps its name.
    """
    with within_pydicom("DICOM file", "its patient data are damaged"):
        if header.get("PatientIdentityRemoved") == "YES":
            return text
        values = " ".join(str(header.get(keyword) or "") for keyword in _IDENTIFYING)
    parts = {part for part in re.split(r"[\s^=\\,;\[\]'\"]+", values) if len(part) >= 3}
    if not parts:
        return text
    return re.sub("|".join(re.escape(part) for part in sorted(parts, key=len, reverse=True)), "hidden", text, flags=re.IGNORECASE)


def printable_name(name: str | Path, header: "Dataset", file: BinaryIO, pixels: PixelData | None) -> str:
    """Return a path for messages and tables: without what names the patient, or might where the header of the file breaks off.

    Header and pixels are what `read_header` returned.
    """
    without = without_identifiers(str(name), header)
    return without if pixels is not None else without_words_of(without, file)


def without_words_of(text: str, file: BinaryIO) -> str:
    """Return a text, such as a path, in which every word of three characters and more that also occurs in a file is hidden.

    For a file too damaged to find the patient's name in: any shared word might be part of it. Case-insensitive.
    """
    file.seek(0)
    content = file.read(_SEARCHED).lower()

    def hidden(word: re.Match[str]) -> str:
        spelt = (word[0].lower().encode(encoding, errors="ignore") for encoding in ("utf-8", "latin-1"))
        return "hidden" if any(len(one) >= 3 and one in content for one in spelt) else word[0]

    return re.sub(r"[^\W_]{3,}", hidden, text)


def safe_name(name: str | Path, header: "Dataset") -> str:
    """Return a file's stem without what names the patient; one that lost something gets a mark that keeps it apart from others."""
    stem = printable(stem_of(name))
    without = without_identifiers(stem, header)
    mark = sha256(str(text_of(header, "SOPInstanceUID", without)).encode()).hexdigest()[:8]
    return without if without == stem else f"{without}_{mark}"


def stem_of(name: str | Path) -> str:
    """Return a file's name without a known ending: DICOM files are often called by numbers with dots."""
    path = Path(name)
    return path.stem if path.suffix.lower() in DICOM_EXTENSIONS + EXTENSIONS else path.name

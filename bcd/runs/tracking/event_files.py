"""TensorBoard's files of a run that goes on: what the resumed part will write again is taken out, so that no point is doubled."""

import logging
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event

from bcd.files import write_bytes

log = logging.getLogger(__name__)

# Before the record its length (8 bytes) and the checksum of that (4), after it its own checksum (4).
_HEADER, _FOOTER = 12, 4


def keep_events(folder: Path, keep: Callable[[str, int], bool]) -> None:
    """Take out of a folder's event files all values that are not to be kept.

    Args:
        folder: of one run, in which nobody writes.
        keep: tag and step in, whether the value stays out.

    Raises:
        OSError: when a file cannot be written; it is as before then.
    """
    for path in sorted(folder.glob("events.out.tfevents.*")):
        records = list(_records(path.read_bytes()))
        kept = [record for record in records if _stays(record, keep)]
        if len(kept) < len(records):
            log.debug("%s: %d of %d records are kept.", path, len(kept), len(records))
        write_bytes(path, b"".join(kept))


def _records(content: bytes) -> Iterator[bytes]:
    """Yield whole records, frame included; a kill may have left half of one at the end."""
    start = 0
    while start + _HEADER <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + _HEADER + length + _FOOTER
        if end > len(content):
            return
        yield content[start:end]
        start = end


def _stays(record: bytes, keep: Callable[[str, int], bool]) -> bool:
    event = Event.FromString(record[_HEADER:-_FOOTER])
    return all(keep(value.tag, event.step) for value in event.summary.value)

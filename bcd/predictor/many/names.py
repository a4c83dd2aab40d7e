"""Names of cases: each for one row alone, in one process or in many that share an output folder."""

import os
from collections.abc import Collection, Iterator
from itertools import count
from pathlib import Path
from typing import Protocol

from bcd.data.manifest import case_file_name

Key = tuple[str, str]
"""File and frame of a row; the frame is empty for a file of one."""


class Names(Protocol):
    """Gives names away."""

    def take(self, wanted: str, key: Key, own: str | None) -> str:
        """Return the wanted name, or one much like it, that no other row has.

        Args:
            wanted: as the case would best be called.
            key: of the row that it is for.
            own: the name that the row's input was promised; None where it was promised none.
        """
        ...


class KnownNames:
    """Names of the rows of one process.

    Args:
        taken: by rows that there are already.
        promised: to inputs that may have none yet.
    """

    def __init__(self, taken: Collection[str], promised: Collection[str]) -> None:
        self.taken = {*taken}
        self.promised = frozenset(promised)

    def take(self, wanted: str, key: Key, own: str | None) -> str:
        """Return the wanted name, or one with a number behind it; see `Names`."""
        free = next(name for name in _like(wanted) if name not in self.taken and (name == own or name not in self.promised))
        self.taken.add(free)
        return free


class ClaimedNames:
    """Names that processes, on one machine or on several, claim by files in a folder they share.

    Args:
        folder: for the claims, made if absent.
        promised: names of inputs, which need no claim.
    """

    def __init__(self, folder: Path, promised: Collection[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.promised = frozenset(promised)

    def take(self, wanted: str, key: Key, own: str | None) -> str:
        """Return the wanted name, or one with a number behind it; see `Names`."""
        return next(name for name in _like(wanted) if name == own or (name not in self.promised and self._claimed(name, key)))

    def _claimed(self, name: str, key: Key) -> bool:
        """Claim a name; tell whether it is ours. Making a file that must not be there yet is one step, over NFS as well."""
        path, holder = self.folder / f"{case_file_name(name)}.claim", "\0".join(key)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return path.read_text(encoding="utf-8") == holder
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(holder)
        return True


def _like(wanted: str) -> Iterator[str]:
    return (wanted if number == 1 else f"{wanted}_{number}" for number in count(1))

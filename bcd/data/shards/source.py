"""A data set that was written as shards, in a folder or behind a URL, with its groups and its split."""

import logging
from pathlib import Path

import numpy as np

from bcd.config.ranges import Count
from bcd.data.manifest import Case, read_manifest, read_sizes
from bcd.data.prepare import Prepared, Streaming, read_groups
from bcd.data.problems import Problem
from bcd.data.shards.fetching import fetch, is_url, locate, read_text
from bcd.data.shards.index import GROUPS, INDEX, MANIFEST, SPLIT, ShardError, ShardIndex, Stamp
from bcd.data.shards.store import FILES, ShardPath, link, store_in
from bcd.data.sources.layout import DataNotFound, data_root
from bcd.data.splits import SplitError, read_split
from bcd.files import build_folder, write_text

logger = logging.getLogger(__name__)


class Shards:
    """The shards that scripts/shard_data.py wrote: same cases, groups and split as the data set that they were made from.

    The tables are copied once to `<local>/<name>-<fingerprint>-shards`. Shards of a folder are read where they are; those behind
    a URL are fetched there one by one as they are needed, and the oldest make room for the next.

    Args:
        root: a folder, or a URL: `https://...`, or of any store that fsspec knows, such as `s3://...`.
        local: the folder for prepared data.
        shuffle_shards: a training epoch is shuffled within so many shards at a time, which are drawn in every epoch.
        spool_shards: so many fetched shards are kept, at least twice `shuffle_shards`.

    Raises:
        ValueError: for a spool that is too small for the shuffle.
    """

    how_to_get = (
        "Write a data set as shards with python scripts/shard_data.py data=<data set> shards=<folder>, and name that folder, or "
        "its URL, with data.root=. Tar files of another tool have no index: unpack them, and use data=table or data=folder."
    )

    def __init__(self, root: str | Path, local: str | Path, shuffle_shards: Count, spool_shards: Count) -> None:
        if spool_shards < 2 * shuffle_shards:
            raise ValueError(
                f"data.source.spool_shards={spool_shards} must be at least twice shuffle_shards={shuffle_shards}: "
                "the shards of one window are read together, and the next one's may be on their way."
            )
        self.where = str(root) if is_url(str(root)) else str(data_root(root))
        self.local = Path(local).absolute()
        self.shuffle_shards = shuffle_shards
        self.spool_shards = spool_shards
        self._index: ShardIndex | None = None

    @property
    def index(self) -> ShardIndex:
        """Return what `shards.json` says.

        Raises:
            DataNotFound: when there is none.
            ShardError: when it cannot be used.
        """
        if self._index is None:
            try:
                text = read_text(self.where, INDEX)
            except FileNotFoundError as error:
                raise DataNotFound(f"{error} {self.how_to_get}") from error
            self._index = ShardIndex.read(text, locate(self.where, INDEX))
        return self._index

    @property
    def name(self) -> str:
        """Return the name of the data set that the shards were made from."""
        return self.index.name

    @property
    def synthetic(self) -> bool:
        """Return whether the images are simulated."""
        return self.index.synthetic

    @property
    def root(self) -> ShardPath:
        """Return the folder that the paths of the cases begin with; the files are in the shards."""
        return ShardPath(self.folder / FILES)

    @property
    def folder(self) -> Path:
        """Return the folder of the tables, and of fetched shards."""
        return self.local / f"{self.index.name}-{self.index.fingerprint}-shards"

    def cases(self) -> list[Case]:
        """Return every case, in the order of the manifest.

        Raises:
            DataNotFound: when there are no shards.
            ShardError: when their index or tables cannot be used, or lack a case.
        """

        def copy_tables(folder: Path) -> None:
            logger.info("Copying the index of %d cases in %d shards, once.", self.index.n_cases, len(self.index.shards))
            for name, stamp in self.index.tables.items():
                fetch(self.where, name, folder / name, stamp)
            write_text(folder / INDEX, self.index.text())

        def is_whole(folder: Path) -> bool:
            try:
                same = (folder / INDEX).read_text(encoding="utf-8") == self.index.text()
                return same and all(Stamp.of(folder / name) == stamp for name, stamp in self.index.tables.items())
            except OSError:
                return False

        build_folder(self.folder, copy_tables, is_whole)
        link(self.folder, self.where, self.spool_shards)
        return read_manifest(self.folder / MANIFEST, self.root)

    def prepared(self, split_file: Path | None, folds: int, split_seed: int, max_pixels: int) -> Prepared:
        """Return the prepared data set; without `split_file` by the shards' own split.

        Raises:
            DataNotFound: when there are no shards.
            ShardError: when their index or tables cannot be used, or lack a case.
            SplitError: when the shards' own split is not of `folds` folds, or was drawn with another seed than `split_seed`.
        """
        cases, index = self.cases(), self.index
        if split_file is None:
            self._check_split(folds, split_seed)
        chosen = split_file if split_file is not None else self.folder / SPLIT
        split, sizes = read_split(chosen), read_sizes(self.folder / MANIFEST)
        skipped = {case_id for case_id, *_ in index.skipped} - {case.case_id for case in cases}
        return Prepared(
            name=index.name,
            fingerprint=index.fingerprint,
            folder=self.folder,
            cases=cases,
            groups=read_groups(self.folder / GROUPS),
            split=split[[case_id not in skipped for case_id in split["case_id"]]].reset_index(drop=True),
            split_file=chosen,
            synthetic=index.synthetic,
            how_to_get=index.how_to_get,
            max_pixels=max_pixels,
            skipped=[Problem(case_id, Path(file), reason, remedy) for case_id, file, reason, remedy in index.skipped],
            streaming=Streaming(
                sizes=np.array([sizes[case.case_id] for case in cases], np.int64).reshape(-1, 2),
                shards=self._shards_of(cases),
                shuffle_shards=self.shuffle_shards,
            ),
        )

    def _check_split(self, folds: int, split_seed: int) -> None:
        own, remedy = self.index.split, "or name another split file: data.split=<file>"
        if folds != own["folds"]:
            raise SplitError(
                f"data.folds={folds}: these shards have a split of {own['folds']}; add data.folds={own['folds']}, {remedy}."
            )
        if own["seed"] is not None and split_seed != own["seed"]:
            drawn = f"the split of these shards was drawn with {own['seed']}; add data.split_seed={own['seed']}"
            raise SplitError(f"data.split_seed={split_seed}: {drawn}, {remedy}.")

    def _shards_of(self, cases: list[Case]) -> np.ndarray:
        """Return the shard of each case's image, int64 (N,).

        Raises:
            ShardError: naming the first case of which a file is in none.
        """
        store, root = store_in(self.folder), len(str(self.root)) + 1
        shards = store.shards_of([str(case.image)[root:] for case in cases])
        masks = [(case, str(mask)[root:]) for case in cases for mask in case.masks]
        of_masks = store.shards_of([name for _, name in masks])
        absent = [cases[row] for row in np.flatnonzero(shards < 0)] or [masks[row][0] for row in np.flatnonzero(of_masks < 0)]
        if absent:
            which = f"{len(absent)} cases of {MANIFEST} are in no shard (first: {absent[0].case_id})"
            raise ShardError(f"{self.where}: {which}; write the shards again.")
        return shards

"""Your own images without a table: a folder per class, masks beside the images."""

import re
from collections.abc import Sequence
from pathlib import Path

from bcd.data.manifest import Case
from bcd.data.problems import Problem
from bcd.data.sources.layout import DataNotFound, checked, data_root, is_folder, is_picture, require, visible

_MASK = "_mask"
# What masks are called elsewhere, with the name of their image before or behind it.
_OTHER_MASK = re.compile(
    r"(?P<image>.+?)[\s._-]+(?:masks?|gt|seg|segmentation|annotation|label)[\s._-]*\d*|masks?[\s._-]+(?P<other>.+)", re.IGNORECASE
)
_MASK_FOLDERS = {"annotation", "annotations", "ground_truth", "groundtruth", "gt", "mask", "masks"}
_MASK_FOLDERS |= {"segmentation", "segmentations"}


class Folder:
    """One folder per class, with images and `<image>_mask*.<ext>` beside them; or images without classes in `root`.

    The class is the folder's name, the case id `<class>/<image>`. Patients are unknown: where you know them, write a
    table (`Table`), or images of one patient may be on both sides of a split. Links are followed.

    Args:
        root: the folder.
        name: the data set's name, in folders and reports.
    """

    synthetic = False
    how_to_get = (
        "Put your images into one folder per class (benign/a.png), each mask beside its image (benign/a_mask.png), "
        "and name the folder around them with data.root=/path/to/it; images without classes go into that folder itself."
    )

    def __init__(self, root: str | Path, name: str = "folder") -> None:
        self.name = name
        self.root = data_root(root)

    def cases(self) -> list[Case]:
        """Return every case, sorted by case id.

        Raises:
            DataNotFound: when the folder is absent or holds no image.
            DataProblems: for masks without image or of a name that is not ours, folders that cannot be classes, and images that lie
                elsewhere.
        """
        require(self.root, (), self.how_to_get)
        problems: list[Problem] = []
        entries = visible(self.root, problems)
        folders = [entry for entry in entries if is_folder(entry) and not is_picture(entry)]
        pictures = [entry for entry in entries if is_picture(entry)]
        others = [entry for entry in entries if entry not in folders and not is_picture(entry)]
        if folders:
            reason = f"lies beside the folder {folders[0].name}, so it has no class"
            remedy = "put every image into a class folder, or all into one folder without classes"
            problems += [Problem(_case_id(picture, self.root), picture, reason, remedy) for picture in pictures]
            pictures = []
        for folder in folders:
            of_class, unused = _in_class(folder, problems)
            pictures, others = pictures + of_class, others + unused
        cases = self._cases(pictures, problems)
        if not cases and not problems:
            raise DataNotFound(f"{self.root}: holds no image. {self.how_to_get}")
        return checked(self.root, cases, problems, others)

    def _cases(self, pictures: Sequence[Path], problems: list[Problem]) -> list[Case]:
        unmarked = [path for path in pictures if _MASK not in path.stem]
        stems = {path.parent / path.stem for path in unmarked}
        images = []
        for path in unmarked:
            # By a name that is not ours; without its ending, as the image that it would be the mask of.
            match = _OTHER_MASK.fullmatch(path.stem)
            owner = path.parent / (match["image"] or match["other"]) if match else None
            if owner is not None and owner in stems:
                remedy = f"call it {owner.name}{_MASK}{path.suffix}, or otherwise where it is an image"
                problems.append(Problem("", path, f"looks like the mask of {owner.name}", remedy))
            else:
                images.append(path)
        masks: dict[Path, list[Path]] = {path.parent / path.stem: [] for path in images}
        for mask in (path for path in pictures if _MASK in path.stem):
            owner = mask.parent / mask.stem.rpartition(_MASK)[0]
            if owner in masks:
                masks[owner].append(mask)
            else:
                problems.append(Problem("", mask, f"has no image {owner.name}", "rename one or remove the mask"))
        return [
            Case(
                case_id=_case_id(path, self.root),
                image=path,
                masks=tuple(masks[path.parent / path.stem]),
                label=None if path.parent == self.root else path.parent.name,
            )
            for path in images
        ]


def _case_id(image: Path, root: Path) -> str:
    return (image.parent / image.stem).relative_to(root).as_posix()


def _in_class(folder: Path, problems: list[Problem]) -> tuple[list[Path], list[Path]]:
    """Return the pictures of a class folder, and the files that are none; and what is wrong with it as a class."""
    n_before = len(problems)
    entries = visible(folder, problems)
    pictures = [entry for entry in entries if is_picture(entry)]
    deeper = [entry for entry in entries if is_folder(entry) and not is_picture(entry)]
    if folder.name.lower() in _MASK_FOLDERS:
        if entries:
            remedy = "put them beside their images as <image>_mask.png, or list both in a table"
            problems.append(Problem("", folder, "looks like masks, not a class", remedy))
        return [], []
    for inner in deeper:
        remedy = "put its images into the class folder itself, or list them in a table"
        problems.append(Problem("", inner, f"lies in the class folder {folder.name}, where folders are not read", remedy))
    if not pictures and len(problems) == n_before:
        problems.append(Problem("", folder, "holds no image", "copy its images into it, or remove it"))
    return pictures, [entry for entry in entries if entry not in pictures and entry not in deeper]

"""Your own images without a table: a folder per class, masks beside the images."""

from pathlib import Path

from bcd.data.manifest import Case, natural_key
from bcd.data.sources.layout import (
    DataNotFound,
    is_picture,
    refuse_broken,
    refuse_duplicates,
    require,
    visible,
    warn_of_others,
)

_MASK = "_mask"
_MASK_FOLDERS = {
    "annotation",
    "annotations",
    "ground_truth",
    "groundtruth",
    "gt",
    "mask",
    "masks",
    "segmentation",
    "segmentations",
}


class Folder:
    """One folder per class, with images and `<image>_mask*.<ext>` beside them; or images without classes in `root`.

    The class is the folder's name, the case id `<class>/<image>`. Patients are unknown: where you know them, write a
    table (`Table`), or images of one patient may stand on both sides of a split.

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
        self.root = Path(root).expanduser().absolute()

    def cases(self) -> list[Case]:
        """Return every case, sorted by case id.

        Raises:
            DataNotFound: when the folder is absent or holds no image.
            ValueError: for a mask without image, two images of one id, or folders that cannot be classes.
        """
        require(self.root, (), self.how_to_get)
        entries = visible(self.root)
        classes = [entry for entry in entries if entry.is_dir()]
        pictures = [entry for entry in entries if is_picture(entry)]
        others = [entry for entry in entries if entry.is_file() and not is_picture(entry)]
        refuse_broken(self.root, self._layout_problems(classes, pictures))
        for folder in classes:
            inside = visible(folder)
            pictures += [path for path in inside if is_picture(path)]
            others += [path for path in inside if not is_picture(path)]
        cases = self._cases(pictures)
        if not cases:
            raise DataNotFound(f"{self.root}: holds no image. {self.how_to_get}")
        refuse_duplicates(self.root, cases)
        warn_of_others(self.root, others)
        return sorted(cases, key=lambda case: natural_key(case.case_id))

    def _layout_problems(self, classes: list[Path], pictures: list[Path]) -> list[str]:
        problems = []
        if classes and pictures:
            both = f"{pictures[0].name} lies beside the folder {classes[0].name}"
            problems.append(f"{both}; put every image into a class folder, or all into one folder without classes.")
        for folder in classes:
            if folder.name.lower() in _MASK_FOLDERS:
                problems.append(
                    f"{folder.name} looks like masks, not a class; put them beside the images, or list both in a table."
                )
            deeper = [entry.name for entry in visible(folder) if entry.is_dir()]
            if deeper:
                way_out = "put the images into the class folder itself, or list them in a table"
                problems.append(f"{folder.name} holds another folder, {deeper[0]}; {way_out}.")
        return problems

    def _cases(self, pictures: list[Path]) -> list[Case]:
        images = [path for path in pictures if _MASK not in path.stem]
        masks: dict[Path, list[Path]] = {path.parent / path.stem: [] for path in images}
        orphans = []
        for mask in (path for path in pictures if _MASK in path.stem):
            owner = mask.parent / mask.stem.rpartition(_MASK)[0]
            if owner in masks:
                masks[owner].append(mask)
            else:
                name = mask.relative_to(self.root).as_posix()
                orphans.append(f"{name} has no image {owner.name}; rename one or remove the mask.")
        refuse_broken(self.root, orphans)
        return [
            Case(
                case_id=(path.parent / path.stem).relative_to(self.root).as_posix(),
                image=path,
                masks=tuple(masks[path.parent / path.stem]),
                label=None if path.parent == self.root else path.parent.name,
            )
            for path in images
        ]

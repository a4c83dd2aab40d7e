"""A trained model at work on images from anywhere."""

import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from bcd.data.decoding import EXTENSIONS, MAX_PIXELS, ImageError, pixel_limit, printable
from bcd.data.guides import ORIGIN_FILE
from bcd.data.images import read_image, read_mask
from bcd.data.manifest import case_file_name
from bcd.data.writing import write_text
from bcd.evaluation.figures import overlay
from bcd.preprocess import Preprocess
from bcd.sample import Batch
from bcd.tasks.base import BaseTask
from bcd.tasks.checkpoint import load_checkpoint
from bcd.tasks.inference import Prediction, predict
from bcd.tasks.roi_classification import RoiClassificationTask

log = logging.getLogger(__name__)


class Predictor:
    """A checkpoint and its preprocessing; agrees with evaluation to the bit.

    Args:
        task: in evaluation mode.
        preprocess: the one it was trained with.
        classes: names, in the order of the probabilities.
        learned_from: ids of the cases that the model was trained or chosen by.
    """

    def __init__(self, task: BaseTask, preprocess: Preprocess, classes: Sequence[str], learned_from: Sequence[str] = ()) -> None:
        self.task = task
        self.preprocess = preprocess
        self.classes = list(classes)
        self.learned_from = list(learned_from)

    @classmethod
    def from_checkpoint(cls, path: Path, trusted: Collection[str] = ()) -> "Predictor":
        """Return the predictor of a checkpoint, on the GPU if there is one.

        Raises:
            CheckpointError: when the checkpoint cannot be used.
        """
        task, preprocess, run_config = load_checkpoint(path, "cuda" if torch.cuda.is_available() else "cpu", trusted)
        return cls(task, preprocess, run_config["classes"], run_config.get("learned_from", ()))

    def __call__(self, image: np.ndarray, case_id: str = "image", guide: np.ndarray | None = None) -> Prediction:
        """Return the prediction for one image.

        Args:
            image: grey, uint8 (H, W).
            case_id: carried through.
            guide: outline for an ROI model, binary (H, W); None for none.
        """
        fitted = self.preprocess.standardise(self.preprocess.fit_image(image))[None]
        outline = self.preprocess.fit_mask(guide) if guide is not None else np.zeros(fitted.shape[2:], np.uint8)
        batch = Batch(
            image=fitted,
            mask=torch.zeros_like(fitted),
            guide=torch.from_numpy(outline.astype(np.float32))[None, None],
            label=torch.tensor([-1]),
            native_size=torch.tensor([image.shape]),
            case_id=[case_id],
        )
        return next(predict(self.task, batch, self.preprocess))


def find_images(path: Path) -> list[Path]:
    """Return the images of a file or a folder with its subfolders, sorted; masks that lie beside their image are left out.

    Raises:
        FileNotFoundError: when there is nothing to predict.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"input={path}: there is no such file or folder.")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and not file.name.startswith("."))
    names = {(file.parent, file.stem) for file in files}
    masks = [file for file in files if "_mask" in file.stem and (file.parent, file.stem.rpartition("_mask")[0]) in names]
    if masks:
        log.info("Left out %d masks that lie beside their image (%s, ...).", len(masks), masks[0].name)
    images = [file for file in files if file not in set(masks)]
    if not images:
        raise FileNotFoundError(f"input={path} holds no image ({', '.join(EXTENSIONS)}).")
    return images


def predict_files(
    predictor: Predictor, source: Path, output: Path, guides: Path | None = None, max_pixels: int = MAX_PIXELS
) -> pd.DataFrame:
    """Predict every image and write masks, overlays and predictions.csv; return the table.

    Case ids are file names without their ending; where two would be the same, the path below `source`. An image that cannot
    be read, or has no outline among `guides`, is listed in the table with its error, and the others go on.

    The masks of a segmentation get an `origin.json` that says which cases the model learned from.

    Args:
        predictor: a trained model.
        source: an image or a folder.
        output: gets `masks/<case_id>.png` (0 and 255, native size), `overlays/<case_id>.png` and `predictions.csv`.
        guides: folder of outlines `<case_id>.png` for an ROI model.
        max_pixels: the most pixels that a picture may have.

    Raises:
        FileNotFoundError: when there is nothing to predict.
        ValueError: when not a single image can be read, or outlines are given to a model that takes none.
    """
    pixel_limit(max_pixels)
    if isinstance(predictor.task, RoiClassificationTask):
        if guides is None:
            log.warning("This model wants outlines (guides=<folder>); without them it sees whole images.")
    elif guides is not None:
        raise ValueError("guides= is for ROI models; this run's model takes no outlines.")
    rows: list[dict[str, object]] = []
    for case_id, path in _named(find_images(source), source):
        row: dict[str, object] = {"case_id": printable(case_id), "file": printable(path)}
        try:
            if printable(case_id) != case_id:
                raise ImageError(path, "the name is not UTF-8", "rename the file")
            image = read_image(path, max_pixels)
            guide = _guide(guides, case_id, image.shape, max_pixels) if guides is not None else None
        except (ValueError, OSError) as error:
            log.error("%s", error)
            rows.append(row | {"error": str(error)})
            continue
        rows.append(row | {"error": ""} | _write(predictor, predictor(image, case_id, guide), image, guide, output))
    table = pd.DataFrame(rows)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "predictions.csv", table.to_csv(index=False))
    if predictor.task.threshold is not None:
        write_text(output / "masks" / ORIGIN_FILE, json.dumps({"learned_from": predictor.learned_from}, indent=2))
    failed = int((table["error"] != "").sum())
    if failed == len(table):
        raise ValueError(f"None of the {failed} images could be read; the reasons stand in {output / 'predictions.csv'}.")
    if failed:
        log.warning("%d of %d images could not be read; the reasons stand in %s.", failed, len(table), output / "predictions.csv")
    return table


def _named(images: Sequence[Path], source: Path) -> list[tuple[str, Path]]:
    stems = [image.stem for image in images]
    root = source if source.is_dir() else source.parent
    unique = len(set(stems)) == len(stems)
    return [(image.stem if unique else image.relative_to(root).with_suffix("").as_posix(), image) for image in images]


def _guide(folder: Path, case_id: str, shape: tuple[int, ...], max_pixels: int) -> np.ndarray:
    path = folder / f"{case_file_name(case_id)}.png"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no outline for {case_id}; guides= must hold one mask for each image.")
    mask = read_mask(path, max_pixels)
    if mask.shape != shape:
        raise ValueError(f"{path} is {mask.shape}, its image {shape}; height and width must be the same.")
    return mask


def _write(
    predictor: Predictor, prediction: Prediction, image: np.ndarray, guide: np.ndarray | None, output: Path
) -> dict[str, object]:
    row: dict[str, object] = {"height": image.shape[0], "width": image.shape[1]}
    outline = guide
    if prediction.mask is not None and predictor.task.threshold is not None:
        outline = prediction.mask >= predictor.task.threshold
        row |= {"lesion_area_px": int(outline.sum()), "max_probability": float(prediction.mask.max())}
        _save(output / "masks" / f"{case_file_name(prediction.case_id)}.png", outline.astype(np.uint8) * 255)
    if prediction.classes is not None:
        row |= {f"probability_{name}": float(value) for name, value in zip(predictor.classes, prediction.classes, strict=True)}
        row["predicted_label"] = predictor.classes[int(prediction.classes.argmax())]
    if isinstance(predictor.task, RoiClassificationTask):
        row["guide_is_empty"] = prediction.guide_is_empty
    picture = cv2.cvtColor(overlay(image, None, outline), cv2.COLOR_RGB2BGR)
    if prediction.classes is not None:
        _label(picture, f"{row['predicted_label']} {prediction.classes.max():.2f}")
    _save(output / "overlays" / f"{case_file_name(prediction.case_id)}.png", picture)
    return row


def _label(picture: np.ndarray, text: str) -> None:
    scale = max(picture.shape[1] / 500, 0.4)
    cv2.putText(picture, text, (6, picture.shape[0] - 8), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 159, 230), max(1, round(scale * 2)))


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, content = cv2.imencode(".png", picture)
    path.write_bytes(content.tobytes())

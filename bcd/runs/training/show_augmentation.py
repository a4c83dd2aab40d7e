"""A sheet of augmented images, to look at before training on them."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from bcd.config.build import build
from bcd.data.augment.pipeline import Augmentation
from bcd.data.manifest import Case, Source, read_case
from bcd.preprocess import Preprocess
from bcd.reports.contours import overlay
from bcd.reports.figures import panel, save
from bcd.runs.assemble import SYNTHETIC

log = logging.getLogger(__name__)


def show_augmentation(config: Mapping[str, Any]) -> Path:
    """Draw `<output>/augmentation/<name>.png` and return its path.

    Each row is a case: the fitted original, then its augmented versions in a training with the config's seed, epochs 0, 1, ...

    Raises:
        ValueError: for a case id that the data set does not have.
    """
    source: Source = build(config["data"]["source"], trusted=config["trusted"])
    preprocess: Preprocess = build(config["preprocess"], trusted=config["trusted"])
    augmentation: Augmentation = build(config["augmentation"], trusted=config["trusted"])
    pictures, titles = [], []
    for case in _chosen(source.cases(), config):
        image, mask = read_case(case, config["data"]["max_pixels"])
        image, mask = preprocess.fit_image(image), preprocess.fit_mask(mask)
        pictures.append(overlay(image, mask, None))
        for epoch in range(config["draws"]):
            altered, moved, _ = augmentation(image, mask, mask, seed=config["seed"], epoch=epoch, case_id=case.case_id)
            pictures.append(overlay(altered, moved, None))
        titles += [case.case_id, *(f"epoch {epoch}" for epoch in range(config["draws"]))]
    legend = f"{config['name']}, seed {config['seed']}. Blue: contour of the lesion."
    legend += f" {SYNTHETIC.partition(':')[0]}." if source.synthetic else ""
    path = Path(config["output"]) / "augmentation" / f"{config['name']}.png"
    save(panel(pictures, titles, legend, columns=1 + config["draws"]), path)
    log.info("Drew %s.", path)
    return path


def _chosen(cases: Sequence[Case], config: Mapping[str, Any]) -> list[Case]:
    """Return the cases that are asked for by name, or some of each class in turn, drawn with the seed."""
    if config["case_ids"] is not None:
        known = {case.case_id: case for case in cases}
        for case_id in config["case_ids"]:
            if str(case_id) not in known:
                raise ValueError(
                    f"case_ids: there is no case {case_id!r}; the data set has {len(known)}, such as {cases[0].case_id!r}."
                )
        return [known[str(case_id)] for case_id in config["case_ids"]]
    classes: dict[str | None, list[Case]] = defaultdict(list)
    for position in np.random.default_rng(config["seed"]).permutation(len(cases)):
        classes[cases[position].label].append(cases[position])
    ordered = [classes[label] for label in sorted(classes, key=str)]
    in_turn = [case for case in chain.from_iterable(zip_longest(*ordered)) if case is not None]
    return in_turn[: config["cases"]]

"""The images, true masks and predicted masks of cases, found again from the folders of the runs that were tested on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bcd.data.manifest import case_file_name, read_case
from bcd.data.prepare import Prepared
from bcd.images.read import read_mask
from bcd.reports.comparison import ComparedCase
from bcd.runs import folder as files
from bcd.runs.assemble import prepare_data


def read_compared_cases(
    names: Sequence[str], places: Mapping[str, Path], configured: Sequence[Path], fingerprint: str
) -> tuple[dict[str, ComparedCase], list[str]]:
    """Return what there is to see of the cases, and a sentence where there is nothing.

    Args:
        names: case ids.
        places: run's name -> its folder, where masks/ is if it outlines.
        configured: folders that hold the config of a run, one at least; the first whose data can be read is used.
        fingerprint: of the data that the runs were tested on; "" where it is unknown.
    """
    prepared, reason = _data_of(configured, fingerprint)
    if prepared is None:
        return {}, [f"Without pictures: {reason}"]
    cases = {case.case_id: case for case in prepared.cases}
    compared = {}
    try:
        for name in names:
            image, mask = read_case(cases[name], prepared.max_pixels)
            paths = {run: folder / files.MASKS / f"{case_file_name(name)}.png" for run, folder in places.items()}
            predicted = {run: read_mask(path, prepared.max_pixels) for run, path in paths.items() if path.is_file()}
            compared[name] = ComparedCase(image, mask, predicted)
    except (OSError, ValueError, KeyError) as error:
        return {}, [f"Without pictures: {error}"]
    return compared, []


def _data_of(folders: Sequence[Path], fingerprint: str) -> tuple[Prepared | None, str]:
    """Return the data that the runs were tested on, or why they cannot be had."""
    reason = ""
    for place in folders:
        try:
            prepared = prepare_data(_config_of(place))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"the data cannot be read ({error})"
            continue
        if not fingerprint or prepared.fingerprint == fingerprint:
            return prepared, ""
        reason = f"the data have changed: fingerprint {prepared.fingerprint}, in the results {fingerprint}."
    return None, reason


def _config_of(folder: Path) -> dict[str, Any]:
    return {**files.with_own_split(files.read_config(folder), folder), "trusted": []}

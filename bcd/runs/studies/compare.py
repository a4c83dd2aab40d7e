"""Compare runs, cross-validations or evaluations by what is in their folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bcd.evaluation.cases import read_table
from bcd.evaluation.compare import Comparison, Contestant, compare
from bcd.reports.comparison import ComparedCase, cases_to_show, compare_page, write_csv, write_latex, write_markdown
from bcd.runs import folder as files

if TYPE_CHECKING:
    from bcd.data.prepare import Prepared


def compare_runs(
    folders: Sequence[Path],
    output: Path,
    *,
    names: Sequence[str] | None = None,
    figures: Sequence[str] | None = None,
    positive: str | None = None,
    permutations: int,
    seed: int,
) -> Comparison:
    """Write compare.csv, compare.md, compare.tex and compare.html; return what was found.

    Args:
        folders: each with metrics.json and cases.csv, two or more.
        output: made if absent.
        names: of the runs, as printed; None for the last parts of their paths, as many as make them unique.
        figures: paths as in metrics.json["test"]; None for the usual ones.
        positive: class of sensitivity and specificity; None for `malignant`, or else the last.
        permutations: how many exchanges are drawn.
        seed: of bootstrap and permutations.

    Raises:
        RunError: for a folder without results, or names that do not fit.
        ValueError: when the runs were not tested on the same cases.
    """
    if len(folders) < 2:
        raise files.RunError(f"runs={','.join(map(str, folders))} must be two folders or more.")
    called = list(names) if names else short_names(folders)
    if len(called) != len(folders) or len(set(called)) != len(called):
        raise files.RunError(f"{len(folders)} runs need as many names, all different; given: {', '.join(map(str, called))}.")
    runs = [read_contestant(folder, str(name)) for folder, name in zip(folders, called, strict=True)]
    comparison = compare(runs, figures, positive, permutations, seed)
    places = {run.name: folder for run, folder in zip(comparison.runs, folders, strict=True)}
    compared, notes = _pictures(comparison, places)
    warnings = [
        f"{name}: {warning}" for name, folder in places.items() for warning in files.read_metrics(folder).get("warnings", [])
    ]
    output.mkdir(parents=True, exist_ok=True)
    files.write_text(output / "compare.csv", write_csv(comparison))
    files.write_text(output / "compare.md", write_markdown(comparison))
    files.write_text(output / "compare.tex", write_latex(comparison))
    files.write_text(output / "compare.html", compare_page(comparison, compared, notes, warnings))
    return comparison


def read_contestant(folder: Path, name: str) -> Contestant:
    """Return a run's results.

    Raises:
        RunError: when the folder has none.
    """
    if not (folder / files.CASES).is_file() or not (folder / files.METRICS).is_file():
        raise files.RunError(
            f"{folder} has no {files.CASES} and {files.METRICS}: give the folder of a run that was tested, of a cross-validation "
            "that is complete, or of an evaluation."
        )
    return Contestant(
        name, read_table(folder / files.CASES), str(files.read_metrics(folder).get("data", {}).get("fingerprint", ""))
    )


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return the last parts of the paths, as many of them as are needed to tell the folders apart."""
    parts = [folder.absolute().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise files.RunError(f"The same folder stands twice among the runs: {', '.join(map(str, folders))}.")


def _pictures(comparison: Comparison, places: Mapping[str, Path]) -> tuple[dict[str, ComparedCase], list[str]]:
    """Return images, true and predicted masks of the cases that differ most, and a sentence if there are no pictures."""
    inner = [path.parent for folder in places.values() for path in sorted(folder.glob(f"*/{files.CONFIG}"))]
    known = [folder for folder in [*places.values(), *inner] if (folder / files.CONFIG).is_file()]
    if not known:
        return {}, ["Without pictures: no folder has the config of a run."]
    # Late: they import torch, which is not needed without pictures.
    from bcd.data.manifest import case_file_name, read_case
    from bcd.images.read import read_mask

    prepared, reason = _data_of(known, comparison.runs[0].fingerprint)
    if prepared is None:
        return {}, [f"Without pictures: {reason}"]
    cases = {case.case_id: case for case in prepared.cases}
    compared = {}
    try:
        for name in cases_to_show(comparison):
            image, mask = read_case(cases[name], prepared.max_pixels)
            paths = {run: folder / files.MASKS / f"{case_file_name(name)}.png" for run, folder in places.items()}
            predicted = {run: read_mask(path, prepared.max_pixels) for run, path in paths.items() if path.is_file()}
            compared[name] = ComparedCase(image, mask, predicted)
    except (OSError, ValueError, KeyError) as error:
        return {}, [f"Without pictures: {error}"]
    return compared, []


def _data_of(folders: Sequence[Path], fingerprint: str) -> tuple["Prepared | None", str]:
    """Return the data that the runs were tested on, from the first folder whose data can be read, or the reason why not."""
    from bcd.runs.assemble import prepare_data  # late: torch comes with it

    reason = ""
    for place in folders:
        try:
            prepared = prepare_data({**files.with_own_split(files.read_config(place), place), "trusted": []})
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"the data cannot be read ({error})"
            continue
        if not fingerprint or prepared.fingerprint == fingerprint:
            return prepared, ""
        reason = f"the data have changed: fingerprint {prepared.fingerprint}, in the results {fingerprint}."
    return None, reason

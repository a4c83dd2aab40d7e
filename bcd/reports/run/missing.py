"""What a reader would look for and does not find, and why."""

from bcd.reports.markup import element, joined, listed
from bcd.reports.run.results import Results, Section


def missing(results: Results) -> Section | None:
    """Return the parts that this report does not have, or None where nothing is missed."""
    told = _reasons(results)
    if not told:
        return None
    return Section("missing", "Not in this report", joined([element("p", "What a reader may look for:"), listed(told)]))


def _reasons(results: Results) -> list[str]:
    test, told = results.test, []
    if not test.get("intervals"):
        told.append("Confidence intervals: metrics.json holds none for this test.")
    if len(test.get("folds") or []) < 2 and not results.metrics.get("predictions"):
        told.append("Figures per fold: the test is of one model, so there is no spread over folds.")
    if results.classifies:
        chosen = {"operating_points": "Operating points", "calibration": "Calibration", "decision_curve": "Decision curve"}
        names = [name for key, name in chosen.items() if not test.get(key)]
        if names:
            told.append(f"{', '.join(names)}: metrics.json holds none; they need predictions on validation cases.")
        if not test.get("patient_level"):
            unknown = "patients unknown" in str(results.data.get("grouped_by", ""))
            told.append(f"Patient level: {'the data set does not tell its patients' if unknown else 'metrics.json holds none'}.")
    if results.outlines:
        if not test.get("detection"):
            told.append("Detection and FROC: metrics.json holds none.")
        if not (test.get("lesion_free_images") or {}).get("n"):
            told.append("Images without a lesion: the test has none, so nothing is known of false outlines on normal images.")
    if not test.get("subgroups"):
        told.append("Subgroups: metrics.json holds none.")
    if results.cases is None:
        told.append("Distributions, curves, galleries and failures: there is no cases.csv beside metrics.json.")
    if not results.metrics.get("external") and not results.metrics.get("predictions"):
        told.append("External validation: the test cases come from the same data set as the training cases.")
    return told

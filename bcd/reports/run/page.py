"""report.html: one page with the figures of a run and their provenance, which needs nothing beside it."""

from collections.abc import Callable

from bcd.reports.rendering import html_page
from bcd.reports.run.checklist import checklist
from bcd.reports.run.classification import classification
from bcd.reports.run.flow import flow
from bcd.reports.run.gallery import failures, gallery
from bcd.reports.run.groups import folds, patient_level, subgroups
from bcd.reports.run.overview import missing, overview
from bcd.reports.run.probabilities import calibration, decision_curve, operating_points, uncertainty
from bcd.reports.run.provenance import provenance, training
from bcd.reports.run.results import Results, Section
from bcd.reports.run.segmentation import detection, lesion_free, segmentation

# In the order of the page.
SECTIONS: tuple[Callable[[Results], Section | None], ...] = (
    overview,
    flow,
    segmentation,
    lesion_free,
    detection,
    classification,
    operating_points,
    calibration,
    decision_curve,
    uncertainty,
    patient_level,
    subgroups,
    gallery,
    failures,
    training,
    folds,
    missing,
    provenance,
)


def report_page(results: Results) -> str:
    """Return the page as HTML, pictures and charts inside."""
    sections = [section for make in SECTIONS if (section := make(results)) is not None]
    sections.append(checklist({section.id: section.title for section in sections}))
    name, warnings = results.metrics["name"], results.metrics.get("warnings", [])
    return html_page("report.html", title=f"{name}: evaluation report", heading=name, warnings=warnings, sections=sections)

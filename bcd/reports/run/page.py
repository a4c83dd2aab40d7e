"""report.html: one page that tells what a run gave and what made it, and needs nothing beside it."""

from collections.abc import Callable
from importlib.resources import files

from bcd.reports.markup import Html, element, joined
from bcd.reports.run.checklist import checklist
from bcd.reports.run.classification import classification
from bcd.reports.run.flow import flow
from bcd.reports.run.gallery import failures, gallery
from bcd.reports.run.groups import folds, patient_level, subgroups
from bcd.reports.run.missing import missing
from bcd.reports.run.overview import overview, warnings
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
    titles = {section.id: section.title for section in sections}
    sections.append(checklist(titles))
    name = results.metrics["name"]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{name}: evaluation report"),
        element("style", _style()),
    )
    main = element("main", element("h1", name), warnings(results.metrics), *(_section(section) for section in sections), id="top")
    return f"<!doctype html>\n{element('html', head, element('body', _contents(sections), main), lang='en')}\n"


def _style() -> Html:
    return Html(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))


def _contents(sections: list[Section]) -> Html:
    links = joined(element("li", element("a", section.title, href=f"#{section.id}")) for section in sections)
    return element("nav", element("a", "Contents", href="#top"), element("ul", links), aria_label="Contents")


def _section(section: Section) -> Html:
    return element("section", element("h2", section.title), section.content, id=section.id)

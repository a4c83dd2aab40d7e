"""Reporting guidelines, item by item: the sections of this report that have something on it.

CLAIM 2024: Tejani et al., Radiology: Artificial Intelligence 2024, doi:10.1148/ryai.240300. TRIPOD+AI: Collins et al., BMJ 2024,
doi:10.1136/bmj-2023-078378. The items are paraphrased; the papers have their wording.
"""

from collections.abc import Mapping

from bcd.reports.run.results import Section

# number, what is asked, the sections that (partly) answer it
Item = tuple[str, str, tuple[str, ...]]

CLAIM: tuple[Item, ...] = (
    ("1", "the title names the kind of AI", ()),
    ("2", "a structured abstract", ()),
    ("3", "background, intended use, role of the AI", ()),
    ("4", "aims and hypotheses", ()),
    ("5", "prospective or retrospective", ()),
    ("6", "goal of the study", ()),
    ("7", "where the data come from", ("data",)),
    ("8", "which cases were taken and which were not", ("data",)),
    ("9", "preprocessing", ("provenance",)),
    ("10", "how a subset of the data was chosen", ("data",)),
    ("11", "de-identification", ()),
    ("12", "handling of missing data", ("data",)),
    ("13", "how images were acquired", ()),
    ("14", "how the reference standard was obtained", ()),
    ("15", "why that reference standard", ()),
    ("16", "who annotated", ()),
    ("17", "how the test set was annotated", ()),
    ("18", "agreement between and within annotators", ()),
    ("19", "how cases were assigned to the parts", ("data", "provenance")),
    ("20", "the level at which the parts are disjoint", ("data",)),
    ("21", "the size of the test that was aimed at", ()),
    ("22", "the model in detail", ("training", "provenance")),
    ("23", "software and its versions", ("provenance",)),
    ("24", "initial weights", ("training",)),
    ("25", "training procedure, augmentation, hyperparameters", ("training", "provenance")),
    ("26", "how the final model was picked", ("training",)),
    ("27", "ensembles, if any", ("provenance",)),
    ("28", "measures of performance", ("overview",)),
    ("29", "uncertainty and significance", ("overview",)),
    ("30", "robustness and sensitivity analyses", ("subgroups",)),
    ("31", "explainability, and how it was checked", ()),
    ("32", "evaluation on internal data", ("overview", "folds")),
    ("33", "testing on external data", ("external",)),
    ("34", "registration of a clinical trial", ()),
    ("35", "numbers included and excluded", ("data",)),
    ("36", "who the patients are, in each part", ("data",)),
    ("37", "performance with its uncertainty", ("overview", "segmentation", "classification")),
    ("38", "diagnostic accuracy and its precision", ("operating-points", "classification", "patients")),
    ("39", "analysis of failures", ("failures", "gallery")),
    ("40", "limitations", ()),
    ("41", "what follows for practice", ()),
    ("42", "the protocol, and further technical detail", ("provenance",)),
    ("43", "availability of software, model and data", ()),
    ("44", "funding, and the funders' role", ()),
)

TRIPOD: tuple[Item, ...] = (
    ("1", "the title: developed or evaluated, for whom, which outcome", ()),
    ("2", "abstract, by its own checklist", ()),
    ("3a\N{EN DASH}c", "context, target population, known inequalities", ()),
    ("4", "objectives", ()),
    ("5a\N{EN DASH}b", "sources of the data, and their dates", ("data",)),
    ("6a\N{EN DASH}c", "setting, eligibility, treatments", ("data",)),
    ("7", "preparation and quality of the data", ("data", "provenance")),
    ("8a\N{EN DASH}c", "the outcome, who judged it, blinded to what", ()),
    ("9a\N{EN DASH}c", "predictors, here the image: choice and measurement", ("provenance",)),
    ("10", "how the sample size was arrived at", ("data",)),
    ("11", "missing data", ("data",)),
    (
        "12a\N{EN DASH}g",
        "analysis: parts of the data, model, tuning, measures, recalibration",
        ("overview", "training", "calibration", "provenance"),
    ),
    ("13", "class imbalance, and recalibration after it", ("data", "calibration")),
    ("14", "fairness: what was done, and why", ("subgroups",)),
    ("15", "the model's output, and how thresholds were found", ("operating-points", "overview")),
    ("16", "differences between training and evaluation data", ("data",)),
    ("17", "ethical approval and consent", ()),
    ("18a\N{EN DASH}f", "funding, interests, protocol, registration, sharing of data and code", ("provenance",)),
    ("19", "involvement of patients and the public", ()),
    ("20a\N{EN DASH}c", "flow and characteristics of participants", ("data",)),
    ("21", "numbers of participants and events in each analysis", ("data", "folds")),
    ("22", "the full model, so that others can use it", ("provenance",)),
    (
        "23a\N{EN DASH}b",
        "performance with intervals, in subgroups and between sites",
        ("overview", "segmentation", "classification", "calibration", "subgroups"),
    ),
    ("24", "updating of the model, if any", ()),
    ("25", "interpretation, fairness included", ()),
    ("26", "limitations", ()),
    ("27a\N{EN DASH}c", "use in practice: bad input, skills needed, next steps", ()),
)


def checklist(titles: Mapping[str, str]) -> Section:
    """Return both checklists with links to the sections that the page has, given as id -> heading."""
    lists = [("CLAIM 2024, 44 items", CLAIM), ("TRIPOD+AI, 27 items", TRIPOD)]
    more = {"titles": titles, "lists": lists}
    return Section(id="checklist", title="Reporting checklists", template="checklist", more=more)

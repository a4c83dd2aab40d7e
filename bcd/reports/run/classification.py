"""How well classes are told apart: per class, confusion matrix, ROC and precision-recall curves."""

from bcd.reports.charts import precision_recall_chart, roc_chart
from bcd.reports.markup import Html, element, figure, joined, table
from bcd.reports.run.overview import positive_class
from bcd.reports.run.results import Results, Section
from bcd.reports.svg import to_svg
from bcd.reports.wording import figures_in, is_number, label_of, number, short

_OVERALL = ("auroc", "auprc", "accuracy", "balanced_accuracy", "f1", "mcc", "kappa", "brier", "ece")


def classification(results: Results) -> Section | None:
    """Return the figures over all classes and by class, the confusion matrix and the curves."""
    if not results.classifies:
        return None
    test = results.test
    overall = [[label_of(name), results.figure(test, name)] for name in _OVERALL if name in test]
    by_class = test["by_class"]
    names = figures_in({name: value for block in by_class.values() for name, value in block.items() if is_number(value)})
    rows = [
        [label_of(name), *(results.figure(block, name, f"by_class.{label}") for label, block in by_class.items())] for name in names
    ]
    caption = "Each class against the rest; the class with the highest probability is the prediction"
    parts = [
        table(["all classes", "value"], overall),
        table(["figure", *by_class], rows, caption),
        confusion_table(results),
        element("div", *_curves(results), class_="charts"),
    ]
    return Section("classification", "Classification", joined(parts))


def confusion_table(results: Results) -> Html:
    """Return the confusion matrix: rows are the truth; counts and shares of the row, darker where there are more."""
    confusion = results.test["confusion"]
    classes, rows = confusion["classes"], []
    for name, counts in zip(classes, confusion["counts"], strict=True):
        total = sum(counts)
        cells = [
            element(
                "td",
                element("b", number(count)),
                " ",
                element("small", f"{100 * count / total:.0f} %" if total else ""),
                style=_shade(count, total),
            )
            for count in counts
        ]
        rows.append(element("tr", element("th", f"{name} (n = {total})", scope="row"), *cells))
    head = element(
        "tr",
        element("th", "truth \N{DOWNWARDS ARROW} prediction \N{RIGHTWARDS ARROW}", scope="col"),
        *(element("th", name, scope="col") for name in classes),
    )
    caption = element("caption", "Confusion matrix: images, and per cent of the row")
    return element(
        "div", element("table", caption, element("thead", head), element("tbody", *rows), class_="confusion"), class_="scroll"
    )


def _shade(count: int, total: int) -> str:
    part = count / total if total else 0.0
    return f"background:rgb(0 114 178 / {0.85 * part:.2f});color:{'#fff' if part > 0.6 else 'inherit'}"


def _curves(results: Results) -> list[Html]:
    cases = results.cases
    names = [name for name in results.class_names if cases is not None and f"probability_{name}" in cases]
    if cases is None:
        return []
    if len(names) == 2:  # the ROC curve of one is the other's mirror image; precision is told of the class that decisions are about
        names = [name for name in names if name == positive_class(results.test)] or names[-1:]
    drawn = [name for name in names if 0 < (cases["label"] == name).sum() < len(cases)]
    if not drawn:
        return []
    several = "fold" in cases and cases["fold"].nunique() > 1
    folds = " Faint: single folds." if several else ""
    roc, recall = ({name: _legend(results, name, figure_name) for name in drawn} for figure_name in ("auroc", "auprc"))
    prevalence = ", ".join(f"{name} {(cases['label'] == name).mean():.2f}" for name in drawn)
    return [
        figure(
            to_svg(roc_chart(cases, drawn, roc), "roc", f"ROC curves: {'; '.join(roc.values())}."),
            f"ROC: each class against the rest.{folds} Dotted: chance.",
        ),
        figure(
            to_svg(
                precision_recall_chart(cases, drawn, recall), "recall", f"Precision-recall curves: {'; '.join(recall.values())}."
            ),
            f"Precision and recall.{folds} Chance would give the share of the class: {prevalence}.",
        ),
    ]


def _legend(results: Results, name: str, figure_name: str) -> str:
    block = results.test["by_class"].get(name, {})
    if block.get(figure_name) is None:
        return short(name)
    return f"{short(name)}, {label_of(figure_name)} {results.figure(block, figure_name, f'by_class.{name}')}"

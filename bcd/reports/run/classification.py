"""Classification: figures per class, confusion matrix, ROC and precision-recall curves."""

from bcd.reports.charts import precision_recall_chart, roc_chart
from bcd.reports.rendering import Picture, Table, chart
from bcd.reports.run.overview import positive_class
from bcd.reports.run.results import Results, Section
from bcd.reports.wording import figures_in, is_number, label_of, short

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
    return Section(
        id="classification",
        title="Classification",
        tables=[Table(["all classes", "value"], overall), Table(["figure", *by_class], rows, caption)],
        charts=_curves(results),
        template="classification",
        more={"confusion": test["confusion"]},
    )


def _curves(results: Results) -> list[Picture]:
    cases = results.cases
    if cases is None:
        return []
    names = [name for name in results.class_names if f"probability_{name}" in cases]
    if len(names) == 2:  # the ROC curve of one is the other's mirror image; precision is that of the positive class
        names = [name for name in names if name == positive_class(results.test)] or names[-1:]
    names = [name for name in names if 0 < (cases["label"] == name).sum() < len(cases)]
    if not names:
        return []
    folds = " Faint: single folds." if "fold" in cases and cases["fold"].nunique() > 1 else ""
    roc, recall = ({name: _legend(results, name, figure) for name in names} for figure in ("auroc", "auprc"))
    prevalence = ", ".join(f"{name} {(cases['label'] == name).mean():.2f}" for name in names)
    return [
        chart(
            roc_chart(cases, names, roc),
            f"ROC: each class against the rest.{folds} Dotted: chance.",
            f"ROC curves: {'; '.join(roc.values())}.",
        ),
        chart(
            precision_recall_chart(cases, names, recall),
            f"Precision and recall.{folds} Chance would give the prevalence: {prevalence}.",
            f"Precision-recall curves: {'; '.join(recall.values())}.",
        ),
    ]


def _legend(results: Results, name: str, figure: str) -> str:
    block = results.test["by_class"].get(name, {})
    if block.get(figure) is None:
        return short(name)
    return f"{short(name)}, {label_of(figure)} {results.figure(block, figure, f'by_class.{name}')}"

"""Charts of the report: distributions, curves, reliability, net benefit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from bcd.reports.wording import short

# Okabe and Ito's colours, distinct for the colour-blind; the dashes help on grey paper.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#777777"
_SIZE = (4.6, 3.5)
_MANY_POINTS = 2000
_Points = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        x: its places.
        y: its heights, as many.
        name: in the legend; empty for none.
        colour: of the line.
        style: matplotlib's line style.
        faint: for what stands in the background, such as single folds.
        options: further arguments of matplotlib's plot.
    """

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    name: str = ""
    colour: str = PALETTE[0]
    style: str = "-"
    faint: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> Figure:
    """Return a chart of lines.

    Args:
        lines: the later ones on top.
        x_label: below.
        y_label: at the left.
        x_range: of the axis; None for what the lines need.
        y_range: likewise.
        diagonal: whether to draw the line of chance, or of perfect calibration.
    """
    chart, axes = _empty(x_label, y_label)
    if diagonal:
        axes.plot([0, 1], [0, 1], ":", color=_GREY, linewidth=1)
    for line in lines:
        weight, alpha = (0.8, 0.35) if line.faint else (1.8, 1.0)
        axes.plot(
            line.x, line.y, line.style, color=line.colour, linewidth=weight, alpha=alpha, label=plain(line.name), **line.options
        )
    if x_range:
        axes.set_xlim(*x_range)
    if y_range:
        axes.set_ylim(*y_range)
    if any(line.name for line in lines):
        _legend(axes)
    return chart


def plain(text: str) -> str:
    """Return a text from outside so that matplotlib neither reads formulas in it nor hides it from the legend."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=8, framealpha=0.85)


def dice_histogram(dice: Sequence[float]) -> Figure:
    """Return the distribution of Dice over the lesion images, in 20 bins, with mean and median."""
    values = np.asarray(dice, dtype=np.float64)
    chart, axes = _empty("Dice of an image", "images")
    axes.hist(values, bins=np.linspace(0, 1, 21).tolist(), color=PALETTE[0], edgecolor="white", linewidth=0.6)
    axes.axvline(float(np.median(values)), color=PALETTE[1], label=f"median {np.median(values):.3f}")
    axes.axvline(float(values.mean()), color="black", linestyle="--", label=f"mean {values.mean():.3f}")
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    return chart


def dice_by_size(cases: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Return Dice against the lesion's share of its image, a point each lesion image, and the median of each fifth.

    Args:
        cases: lesion images, rows of `score_case`.
        class_names: in their order.
    """
    sizes = 100 * cases["lesion_area_px"] / (cases["height"] * cases["width"])
    chart, axes = _empty("lesion, % of the image", "Dice of an image")
    for number, name in enumerate(class_names):
        of_class = cases["label"] == name
        if of_class.any():
            axes.scatter(
                sizes[of_class],
                cases.loc[of_class, "dice"],
                s=14,
                marker=_MARKERS[number % len(_MARKERS)],
                color=PALETTE[number % len(PALETTE)],
                alpha=0.55,
                linewidths=0,
                label=plain(short(name)),
                rasterized=len(cases) > _MANY_POINTS,
            )
    if len(cases) >= 25:
        fifth = np.minimum(sizes.rank(method="first", pct=True).to_numpy() * 5, 4.999).astype(int)
        grouped = pd.DataFrame({"size": sizes.to_numpy(), "dice": cases["dice"].to_numpy()}).groupby(fifth).median()
        axes.plot(grouped["size"], grouped["dice"], "o-", color="black", markersize=5, linewidth=1.4, label="median of each fifth")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_ylim(-0.03, 1.03)
    _legend(axes)
    return chart


def roc_chart(cases: pd.DataFrame, class_names: Sequence[str], legend: Mapping[str, str]) -> Figure:
    """Return the ROC curve of each class against the rest; single folds stand faintly behind.

    Args:
        cases: with `label` and a `probability_<class>` for each class.
        class_names: those to draw; one without a case, or with nothing else, is left out.
        legend: class -> its entry in the legend.
    """
    lines = _class_lines(cases, class_names, legend, _roc_points)
    edge = (-0.02, 1.02)
    return line_chart(lines, "1 \N{MINUS SIGN} specificity", "sensitivity", x_range=edge, y_range=edge, diagonal=True)


def precision_recall_chart(cases: pd.DataFrame, class_names: Sequence[str], legend: Mapping[str, str]) -> Figure:
    """Return the precision-recall curve of each class against the rest; arguments as of `roc_chart`."""
    # Between two steps precision does not go straight from one to the other; average precision takes the steps, too.
    lines = _class_lines(cases, class_names, legend, _precision_recall_points, {"drawstyle": "steps-post"})
    edge = (-0.02, 1.02)
    return line_chart(lines, "recall (sensitivity)", "precision (PPV)", x_range=edge, y_range=edge)


def _roc_points(truth: np.ndarray, probability: np.ndarray) -> _Points:
    false_positive_rate, sensitivity, _ = roc_curve(truth, probability)
    return false_positive_rate, sensitivity


def _precision_recall_points(truth: np.ndarray, probability: np.ndarray) -> _Points:
    precision, recall, _ = precision_recall_curve(truth, probability, drop_intermediate=True)
    return recall, precision


def _class_lines(
    cases: pd.DataFrame,
    class_names: Sequence[str],
    legend: Mapping[str, str],
    points: Callable[[np.ndarray, np.ndarray], _Points],
    options: Mapping[str, Any] | None = None,
) -> list[Line]:
    folds = cases["fold"].unique().tolist() if "fold" in cases else []
    faint: list[Line] = []
    bold: list[Line] = []
    for number, name in enumerate(class_names):
        colour, style = PALETTE[number % len(PALETTE)], _DASHES[number % len(_DASHES)]
        parts = [(cases[cases["fold"] == fold], True) for fold in folds] if len(folds) > 1 else []
        for part, is_fold in [*parts, (cases, False)]:
            truth = (part["label"] == name).to_numpy()
            if truth.any() and not truth.all():
                x, y = points(truth, part[f"probability_{name}"].to_numpy(dtype=np.float64))
                drawn = Line(x, y, "" if is_fold else legend.get(name, name), colour, style, is_fold, options or {})
                (faint if is_fold else bold).append(drawn)
    return [*faint, *bold]


def froc_chart(froc: Mapping[str, Sequence[float]], marked: Sequence[float] = ()) -> Figure:
    """Return lesion sensitivity against false positives per image.

    Args:
        froc: `false_positives_per_image` and `sensitivity`, as many.
        marked: false positives per image at which the average is taken.
    """
    chart = line_chart(
        [
            Line(
                froc["false_positives_per_image"],
                froc["sensitivity"],
                options={"marker": ".", "markersize": 3},
            )
        ],
        "false positives per image",
        "lesion sensitivity",
        y_range=(-0.02, 1.02),
    )
    furthest = max(froc["false_positives_per_image"])
    for place in marked:
        if place <= furthest:
            chart.axes[0].axvline(place, color=_GREY, linewidth=0.8, linestyle=":")
    return chart


def reliability_chart(calibration: Mapping[str, Any]) -> Figure:
    """Return observed frequency against mean probability, before and after calibration; larger dots stand for more cases.

    Args:
        calibration: `before` and perhaps `after`, each with `reliability`: bins with `n`, `mean_probability` and `observed`.
    """
    lines = []
    parts = [name for name in ("before", "after") if calibration.get(name)]
    for number, part in enumerate(parts):
        bins = [bin_ for bin_ in calibration[part]["reliability"] if bin_["n"]]
        x, y = [bin_["mean_probability"] for bin_ in bins], [bin_["observed"] for bin_ in bins]
        lines.append(Line(x, y, part if len(parts) > 1 else "", PALETTE[1 - number], _DASHES[1 - number]))
    chart = line_chart(
        lines, "mean predicted probability", "observed frequency", x_range=(0, 1), y_range=(-0.02, 1.02), diagonal=True
    )
    for line, part in zip(lines, parts, strict=True):
        counts = np.array([bin_["n"] for bin_ in calibration[part]["reliability"] if bin_["n"]], dtype=np.float64)
        chart.axes[0].scatter(line.x, line.y, s=12 + 120 * counts / counts.max(), color=line.colour, alpha=0.6, linewidths=0)
    return chart


def decision_chart(curve: Mapping[str, Any]) -> Figure:
    """Return net benefit against the threshold probability: the model, everyone treated, nobody treated.

    Args:
        curve: `thresholds`, `model`, `treat_all` and perhaps `treat_none`, as many each.
    """
    x = curve["thresholds"]
    nobody = curve.get("treat_none")
    lines = [
        Line(x, nobody if isinstance(nobody, Sequence) else [0.0] * len(x), "nobody is recalled", "black", ":"),
        Line(x, curve["treat_all"], "everyone is recalled", PALETTE[1], "--"),
        Line(x, curve["model"], "model", PALETTE[0]),
    ]
    top = max([value for value in [*curve["model"], *curve["treat_all"]] if value is not None], default=0.1)
    return line_chart(lines, "threshold probability", "net benefit", y_range=(-0.25 * max(top, 0.02), 1.1 * max(top, 0.02)))


def abstention_chart(abstention: Mapping[str, Sequence[float]]) -> Figure:
    """Return accuracy over the cases that are not left to a reader, against their share.

    Args:
        abstention: `coverage` and `accuracy`, as many.
    """
    return line_chart(
        [Line(abstention["coverage"], abstention["accuracy"])], "share of cases kept", "accuracy on them", x_range=(0, 1.02)
    )


def training_chart(history: pd.DataFrame, name: str) -> Figure:
    """Return one figure over the epochs, training beside validation, the chosen epoch marked.

    Args:
        history: one row an epoch: `epoch`, `train/<name>`, `val/<name>`, perhaps `best`.
        name: of the figure, such as `loss` or `dice`.
    """
    lines = [
        Line(
            history["epoch"].to_numpy() + 1,
            history[f"{part}/{name}"].to_numpy(),
            words,
            colour,
            style,
            options={"marker": "." if len(history) < 30 else None},
        )
        for part, words, colour, style in (("train", "training", _GREY, "--"), ("val", "validation", PALETTE[0], "-"))
        if f"{part}/{name}" in history
    ]
    chart = line_chart(lines, "epoch", name.replace("_", " "))
    if "best" in history and history["best"].any():
        chart.axes[0].axvline(
            float(history.loc[history["best"].astype(bool), "epoch"].iloc[-1]) + 1, color=PALETTE[1], label="chosen"
        )
        _legend(chart.axes[0])
    chart.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return chart


def _empty(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    chart = Figure(figsize=_SIZE)
    # Fixed margins: measuring the labels takes as long as drawing them.
    axes = chart.add_axes((0.155, 0.14, 0.81, 0.83))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return chart, axes

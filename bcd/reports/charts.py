"""Charts of the report: distributions, curves, reliability, net benefit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from bcd.reports.figures import draw_history
from bcd.reports.wording import short

# Okabe and Ito's colours, distinct for the colour-blind; the dashes help on grey paper.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#777777"
_SIZE = (4.6, 3.5)
_MANY_POINTS = 2000


def plain(text: str) -> str:
    """Return a text from outside so that matplotlib neither reads formulas in it nor hides it from the legend."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
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
    """Return Dice against the lesion's share of its image, of lesion images as `score_case` scores them.

    Each image is a point; the median of each fifth is drawn too.
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
    figure, axes = _empty("1 \N{MINUS SIGN} specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], ":", color=_GREY, linewidth=1)
    _draw_classes(axes, cases, class_names, legend, lambda truth, probability: roc_curve(truth, probability)[:2])
    return figure


def precision_recall_chart(cases: pd.DataFrame, class_names: Sequence[str], legend: Mapping[str, str]) -> Figure:
    """Return the precision-recall curve of each class against the rest; arguments as of `roc_chart`."""

    def points(truth: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        precision, recall, _ = precision_recall_curve(truth, probability, drop_intermediate=True)
        return recall, precision

    figure, axes = _empty("recall (sensitivity)", "precision (PPV)")
    # Between two steps precision does not go straight from one to the other; average precision takes the steps, too.
    _draw_classes(axes, cases, class_names, legend, points, "steps-post")
    return figure


def _draw_classes(
    axes: Axes,
    cases: pd.DataFrame,
    class_names: Sequence[str],
    legend: Mapping[str, str],
    points: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    drawstyle: Literal["default", "steps-post"] = "default",
) -> None:
    folds = [part for _, part in cases.groupby("fold")] if "fold" in cases and cases["fold"].nunique() > 1 else []
    for part in [*folds, cases]:
        width, alpha = (1.8, 1.0) if part is cases else (0.8, 0.35)
        for number, name in enumerate(class_names):
            truth = (part["label"] == name).to_numpy()
            if truth.any() and not truth.all():
                x, y = points(truth, part[f"probability_{name}"].to_numpy(dtype=np.float64))
                axes.plot(
                    x,
                    y,
                    _DASHES[number % len(_DASHES)],
                    color=PALETTE[number % len(PALETTE)],
                    drawstyle=drawstyle,
                    linewidth=width,
                    alpha=alpha,
                    label=plain(legend.get(name, name)) if part is cases else None,
                )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    _legend(axes)


def froc_chart(froc: Mapping[str, Sequence[float]], marked: Sequence[float] = ()) -> Figure:
    """Return lesion sensitivity against false positives per image, with lines at those rates that are marked."""
    figure, axes = _empty("false positives per image", "lesion sensitivity")
    axes.plot(froc["false_positives_per_image"], froc["sensitivity"], ".-", color=PALETTE[0], linewidth=1.8, markersize=3)
    axes.set_ylim(-0.02, 1.02)
    for place in marked:
        if place <= max(froc["false_positives_per_image"]):
            axes.axvline(place, color=_GREY, linewidth=0.8, linestyle=":")
    return figure


def reliability_chart(calibration: Mapping[str, Any]) -> Figure:
    """Return observed frequency against mean probability, before and after calibration; larger dots mean more cases."""
    figure, axes = _empty("mean predicted probability", "observed frequency")
    axes.plot([0, 1], [0, 1], ":", color=_GREY, linewidth=1)
    for part, colour, style in (("before", PALETTE[1], "--"), ("after", PALETTE[0], "-")):
        if calibration.get(part):
            bins = pd.DataFrame([one for one in calibration[part]["reliability"] if one["n"]]).astype(float)
            x, y = bins["mean_probability"], bins["observed"]
            axes.plot(x, y, style, color=colour, linewidth=1.8, label=part)
            axes.scatter(x, y, s=12 + 120 * bins["n"] / bins["n"].max(), color=colour, alpha=0.6, linewidths=0)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    _legend(axes)
    return figure


def decision_chart(curve: Mapping[str, Any]) -> Figure:
    """Return net benefit against the threshold probability: the model, everyone treated, nobody treated."""
    x, nobody = curve["thresholds"], curve.get("treat_none")
    figure, axes = _empty("threshold probability", "net benefit")
    axes.plot(x, nobody if isinstance(nobody, Sequence) else [0.0] * len(x), ":", color="black", label="nobody is recalled")
    axes.plot(x, curve["treat_all"], "--", color=PALETTE[1], linewidth=1.8, label="everyone is recalled")
    axes.plot(x, curve["model"], color=PALETTE[0], linewidth=1.8, label="model")
    top = max([value for value in [*curve["model"], *curve["treat_all"]] if value is not None], default=0.1)
    axes.set_ylim(-0.25 * max(top, 0.02), 1.1 * max(top, 0.02))
    _legend(axes)
    return figure


def abstention_chart(abstention: Mapping[str, Sequence[float]]) -> Figure:
    """Return accuracy over the cases that are not left to a reader, against their share."""
    figure, axes = _empty("share of cases kept", "accuracy on them")
    axes.plot(abstention["coverage"], abstention["accuracy"], color=PALETTE[0], linewidth=1.8)
    axes.set_xlim(0, 1.02)
    return figure


def training_chart(history: pd.DataFrame, name: str) -> Figure:
    """Return one figure over the epochs, training beside validation, the chosen epoch marked; see `draw_history`."""
    figure, axes = _empty("epoch", name.replace("_", " "))
    draw_history(axes, history, name, mark_best=True)
    return figure


def _empty(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    chart = Figure(figsize=_SIZE)
    # Fixed margins: measuring the labels takes as long as drawing them.
    axes = chart.add_axes((0.155, 0.14, 0.81, 0.83))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return chart, axes

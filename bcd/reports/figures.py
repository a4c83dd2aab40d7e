"""Pictures: overlays of single cases, panels of several, learning curves."""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Figure, not pyplot: pyplot's figures are global, and stay in memory until they are closed.


def panel(pictures: Sequence[np.ndarray], titles: Sequence[str], legend: str, columns: int = 4) -> Figure:
    """Return a figure of pictures, uint8 (H, W) or (H, W, 3), each under its title, over one legend line."""
    across, rows = min(columns, len(pictures)), math.ceil(len(pictures) / columns)
    width, height = 3.1 * across, 3.2 * rows + 0.4
    # Fixed margins: matplotlib's own layout takes longer than all the rest.
    figure = Figure(figsize=(width, height))
    lines = 1 + max(title.count("\n") for title in titles)
    for number, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        row, column = divmod(number, across)
        box = (column * 3.1 + 0.05, height - (row + 1) * 3.2, 3.0, 3.2 - 0.2 * lines)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        axes.imshow(_shrunk(picture), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.text(0.5, 0.12 / height, legend, fontsize=9, ha="center")
    return figure


def _shrunk(picture: np.ndarray, side: int = 400) -> np.ndarray:
    """Return a picture that is no larger than a panel shows it."""
    scale = side / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture


def learning_curves(history: pd.DataFrame, monitor: str, note: str = "") -> Figure:
    """Return the curves of a run, one panel a figure, training beside validation.

    Args:
        history: one row an epoch; columns `epoch` and log keys such as `train/loss`, `val/dice`.
        monitor: the log key that picked the best epoch, which is marked.
        note: a line below, such as a warning that the data are synthetic.
    """
    columns = [str(column) for column in history.columns]
    names = sorted({column.partition("/")[2] for column in columns if column.startswith(("train/", "val/"))})
    names.sort(key=lambda name: (name != "loss", name))
    width, height = 4.0 * len(names), 3.5
    figure = Figure(figsize=(width, height))
    # Inches of room for ticks and titles; matplotlib would find the same in several times the time.
    figure.subplots_adjust(left=0.6 / width, right=1 - 0.1 / width, bottom=0.75 / height, top=1 - 0.35 / height, wspace=0.22)
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        draw_history(axes, history, name, mark_best=f"val/{name}" == monitor)
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    if note:
        figure.text(0.5, 0.08 / height, note, fontsize=9, color="#b00000", ha="center")
    return figure


def draw_history(axes: Axes, history: pd.DataFrame, name: str, *, mark_best: bool) -> None:
    """Draw one figure, such as `loss`, over the epochs, training beside validation, on axes.

    The history has one row an epoch, from 0: `epoch`, `train/<name>`, `val/<name>`, perhaps `best`.
    """
    epochs, marker = history["epoch"] + 1, "." if len(history) < 30 else None
    for part, words, colour, style in (("train", "training", "#777777", "--"), ("val", "validation", "#0072b2", "-")):
        if f"{part}/{name}" in history:
            axes.plot(epochs, history[f"{part}/{name}"], style, color=colour, linewidth=1.8, marker=marker, label=words)
    if mark_best and "best" in history and history["best"].any():
        axes.axvline(float(epochs[history["best"].astype(bool)].iloc[-1]), color="#d55e00", label="chosen")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, framealpha=0.85)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, aside first and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    figure.savefig(aside, format="png", dpi=110, pil_kwargs={"compress_level": 3})
    aside.replace(path)


def to_array(figure: Figure) -> np.ndarray:
    """Return a figure as uint8 (H, W, 3), RGB, for the dashboards."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

"""Look for a learning rate: raise it from step to step, watch the loss, and suggest where it falls fastest.

Smith, Cyclical Learning Rates, WACV 2017, arXiv:1506.01186. The suggestion is a start, not an optimum: it comes from the first
steps alone, and depends on batch size, loss and pretrained weights.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from rich.console import Console
from scipy.ndimage import gaussian_filter1d

from bcd.files import write_text
from bcd.reports.figures import save
from bcd.runs import folder as files
from bcd.runs.assemble import acquaint, build_datamodule, build_task, check_fit, prepare_data
from bcd.runs.hardware import hardware_of
from bcd.runs.training.fit import build_trainer, fit, quiet_lightning
from bcd.runs.training.resume import StepSeed
from bcd.sample import Batch
from bcd.tasks.base import NonFiniteLossError
from bcd.tasks.schedules import ConstantSchedule

log = logging.getLogger(__name__)

WINDOW = 0.03  # standard deviation of the smoothing, as a share of the steps
RUNAWAY = 4.0  # the sweep ends when the smoothed loss is so many times its lowest


class RateSweep(Callback):
    """Raises the learning rate by the same factor at every optimizer step, and notes the loss.

    Layers that learn more slowly (finetune.layer_decay) keep their ratio to the rate.

    Args:
        lowest: the first rate.
        highest: the last.
        steps: optimizer steps from one to the other, at least 10.

    Attributes:
        rates: of the optimizer steps so far.
        losses: of these steps.

    Raises:
        ValueError: for rates that do not rise, or fewer than 10 steps.
    """

    def __init__(self, lowest: float, highest: float, steps: int) -> None:
        if not 0 < lowest < highest or steps < 10:
            raise ValueError(f"search: lowest={lowest} must be above 0 and below highest={highest}, and steps={steps} at least 10.")
        self.all_rates = np.geomspace(lowest, highest, steps).tolist()
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._gathered: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Set the rate of the step that this batch belongs to."""
        groups = trainer.optimizers[0].param_groups
        full = max(group["initial_lr"] for group in groups)
        for group in groups:
            group["lr"] = self.all_rates[trainer.global_step] * group["initial_lr"] / full

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Note the step's loss, and stop when it diverges."""
        self._gathered.append(float(outputs["loss"]))  # a share of the step's, where gradients are accumulated
        if trainer.global_step == len(self.rates):
            return
        self.rates.append(self.all_rates[len(self.rates)])
        self.losses.append(sum(self._gathered))
        self._gathered = []
        smooth = smoothed(self.losses)
        if len(smooth) >= 10 and smooth[-1] > RUNAWAY * min(smooth):
            trainer.should_stop = True


def find_rate(config: Mapping[str, Any], folder: Path) -> float | None:
    """Sweep the learning rate of a run; write learning_rates.csv and .png; print and return a suggestion.

    Nothing of the network that it trains is kept: a training that follows starts from its own first weights. What is frozen at
    first stays frozen. Callbacks and loggers of the config take no part.

    Returns:
        The rate, or None where the loss never fell.

    Raises:
        ValueError: for anything in the config or the data that cannot work.
    """
    for key in ("plan", "resume"):
        if config[key] is not None:
            raise ValueError(f"A search for a learning rate takes no {key}; give it the options of a training that begins.")
    quiet_lightning()
    folder.mkdir(parents=True, exist_ok=True)
    search = config["search"]
    sweep = RateSweep(search["lowest"], search["highest"], search["steps"])
    config = for_the_search(files.begin(folder, config))
    hardware = hardware_of(config)
    task = build_task(config, hardware)
    datamodule = build_datamodule(config, prepare_data(config), hardware)
    datamodule.setup("fit")
    check_fit(task, datamodule)
    acquaint(task, datamodule, pretrained=config["pretrained"] is not False)
    task.scheduler = ConstantSchedule()
    trainer = build_trainer(config, hardware, StepSeed(config["seed"]), sweep)
    try:
        fit(trainer, task, datamodule)
    except NonFiniteLossError as error:  # the sweep has found its end
        log.info("%s", str(error).partition(", on the cases")[0])
    table = pd.DataFrame({"learning_rate": sweep.rates, "loss": sweep.losses, "smoothed": smoothed(sweep.losses)})
    rate = suggest(table["learning_rate"].to_numpy(), table["smoothed"].to_numpy())
    write_text(folder / "learning_rates.csv", table.to_csv(index=False))
    save(rate_curve(table, rate), folder / "learning_rates.png")
    _say(rate, table, folder)
    return rate


def for_the_search(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a training that is only swept: one device, no validation, nothing saved or logged."""
    steps = config["search"]["steps"]
    plain = {"max_epochs": steps, "max_steps": steps, "max_time": None, "limit_val_batches": 0}
    alone = {"devices": 1, "enable_checkpointing": False, "enable_progress_bar": False}
    return {
        **config,
        "trainer": {key: value for key, value in config["trainer"].items() if key != "strategy"} | plain | alone,
        "finetune": {**config["finetune"], "until": 1.0, "gradual": False},
        "callbacks": {},
        "logger": {},
    }


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the losses under a Gaussian window, centred: a running mean would lag, and the suggestion with it."""
    return gaussian_filter1d(np.asarray(losses, dtype=float), WINDOW * len(losses), mode="nearest").tolist() if losses else []


def suggest(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Return the rate at which the smoothed loss falls fastest over the rate's logarithm, before its lowest value.

    Args:
        rates: ascending (N,).
        losses: smoothed (N,).

    Returns:
        None where the loss does not fall.
    """
    end = int(np.argmin(losses)) + 1 if len(losses) else 0
    if end < 3:
        return None
    slopes = np.gradient(losses[:end], np.log(rates[:end]))
    return float(rates[int(np.argmin(slopes))])


def rate_curve(table: pd.DataFrame, rate: float | None) -> Figure:
    """Return the loss over the learning rate, with the suggestion marked."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(table["learning_rate"], table["loss"], color="#bbbbbb", label="loss of a step")
    axes.plot(table["learning_rate"], table["smoothed"], color="#0072b2", label="smoothed")
    if rate is not None:
        axes.axvline(rate, color="#d55e00", linewidth=1, label=f"{rate:.2g}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _say(rate: float | None, table: pd.DataFrame, folder: Path) -> None:
    console = Console(soft_wrap=True)
    if rate is None:
        console.print("No suggestion: the loss did not fall at any rate. Try a lower search.lowest, or more search.steps.")
    else:
        lowest = table["learning_rate"].iloc[int(table["smoothed"].argmin())]
        console.print(
            f"The loss falls fastest at optimizer.lr={rate:.2g}, and is lowest at {lowest:.2g}, beyond which it rises. Try "
            f"{rate:.2g} and less: the search sees only the first steps.",
            highlight=False,
        )
    console.print(f"Curve: {folder / 'learning_rates.png'}", markup=False)

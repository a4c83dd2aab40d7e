"""All trackers of a run: built from the config, given config, results and paths of the files, and closed."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger
from PIL import Image

from bcd.config.build import build
from bcd.config.processes import is_follower
from bcd.runs import folder as files
from bcd.runs.signals import RunStopped
from bcd.runs.tracking.guard import GuardedLogger
from bcd.runs.tracking.kinds import CsvTracker, TensorBoardTracker, Tracker, Watermark
from bcd.runs.tracking.servers import MlflowTracker, WandbTracker, be_patient_but_not_long
from bcd.runs.training.resume import Keep

log = logging.getLogger(__name__)

_KINDS: dict[type[Logger], type[Tracker]] = {
    CSVLogger: CsvTracker,
    TensorBoardLogger: TensorBoardTracker,
    WandbLogger: WandbTracker,
    MLFlowLogger: MlflowTracker,
}
# In the run's folder: one file a tracker, which holds the tracker's id of the run.
FOLDER = "trackers"
# Name in every tracker -> path in the run's folder.
PICTURES = {"learning_curves": "learning_curves.png", "test_cases": "overlays/panel.png"}
FILES = {name: name for name in (files.CONFIG, files.METRICS, files.REPORT, "model_card.md")}
# Beside those files: exists once all trackers have the results of the run, and are closed.
_TOLD = "told"
_TEST_BLOCKS = ("lesion_images", "lesion_free_images")
# Logged after the test, which a resumed run repeats; and the config, which it tells again.
_AGAIN = ("test/", "cost/", "model/", *PICTURES, *FILES, "_hparams_/")


class Trackers:
    """The trackers of a run, as a context that ends them.

    Args:
        loggers: for Lightning's Trainer.
        follows: this is a further process of a training, whose first one logs everything that is logged once.
    """

    def __init__(self, loggers: Sequence[GuardedLogger], follows: bool = False) -> None:
        self.loggers = list(loggers)
        self.follows = follows

    @classmethod
    def open(cls, config: Mapping[str, Any], folder: Path, resumed: bool) -> "Trackers":
        """Return the trackers of a config; nothing of them has started, but servers may have been asked.

        Raises:
            ValueError: for a logger that cannot be built as it is configured, or whose package is missing where the run begins.
        """
        be_patient_but_not_long()
        built = [_built(name, node, config, folder, resumed) for name, node in config["logger"].items()]
        return cls([logger for logger in built if logger is not None], is_follower(config["trainer"]))

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        stopped = kind is not None and issubclass(kind, RunStopped | KeyboardInterrupt)
        for logger in self.loggers:
            logger.close("success" if kind is None else "stopped" if stopped else "failed")

    def begin(self, config: Mapping[str, Any], keep: Keep | None = None) -> None:
        """Log the run's config and group.

        Args:
            config: of the run, complete.
            keep: of a resumed run, which logs stay; None for a new run.
        """
        if keep is not None:
            self._each("going on", methodcaller("resume", lambda tag, step: not tag.startswith(_AGAIN) and keep(tag, step)))
        self._each("telling the config", methodcaller("config", config))

    def results(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Log the run's results: figures of the test and of the cost, pictures, report and model."""
        step = max(int((metrics.get("training") or {}).get("steps") or 1) - 1, 0)
        figures = result_figures(metrics)
        if figures:
            for logger in self.loggers:
                logger.log_metrics(figures, step)
        for name, place in PICTURES.items():
            if (folder / place).is_file():
                with Image.open(folder / place) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                self._each("a picture", methodcaller("picture", name, pixels, step))
        model = files.BEST if (folder / files.CHECKPOINTS / files.BEST).is_file() else files.LAST
        for name, place in {**FILES, f"model/{model}": f"{files.CHECKPOINTS}/{model}"}.items():
            if (folder / place).is_file():
                self._each(f"keeping {name}", methodcaller("file", name, folder / place, step))

    def note_told(self, folder: Path) -> None:
        """Note, once they are closed, that the trackers have everything."""
        if self.loggers and not self.follows:
            files.write_text(folder / FOLDER / _TOLD, "")

    def _each(self, what: str, tell: Callable[[Tracker], None]) -> None:
        if self.follows:
            return
        for logger in self.loggers:
            logger.attempt(what, partial(tell, logger.tracker), None)


def tell_again(config: Mapping[str, Any], folder: Path) -> None:
    """Log the results of a finished run, if it was killed between its report and the end of the trackers."""
    if (folder / FOLDER / _TOLD).is_file():
        return
    with Trackers.open(config, folder, resumed=True) as trackers:
        trackers.begin(config, keep=lambda tag, step: True)
        trackers.results(folder, files.read_metrics(folder))
    trackers.note_told(folder)


def result_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a finished run under their names in every tracker, such as `test/dice` and `cost/train_seconds`."""
    test = metrics.get("test") or {}
    figures = _numbers(test, "test/")
    for block in _TEST_BLOCKS:
        figures |= _numbers(test.get(block) or {}, f"test/{block}/")
    cost = metrics.get("cost") or {}
    return figures | _numbers(cost, "cost/") | _numbers(cost.get("energy_j") or {}, "cost/energy_j/")


def _numbers(block: Mapping[str, Any], above: str) -> dict[str, float]:
    return {f"{above}{name}": float(value) for name, value in block.items() if isinstance(value, int | float)}


def _built(name: str, node: Mapping[str, Any], config: Mapping[str, Any], folder: Path, resumed: bool) -> GuardedLogger | None:
    # In two steps: what is wrong in the config is an error, what is wrong with the tracker is not.
    make = build({**node, "_partial_": True}, trusted=config.get("trusted", ()))
    is_class = inspect.isclass(make.func)
    kind = next((kind for known, kind in _KINDS.items() if is_class and issubclass(make.func, known)), Tracker)
    watermark = Watermark(folder / FOLDER / f"{name}.json")
    try:
        given = kind.arguments(node, config, watermark)
        logger = make(**{key: value for key, value in given.items() if node.get(key) is None})
        return GuardedLogger(name, kind(logger, watermark))
    except ModuleNotFoundError as error:
        extra = f': pip install "bcd[{name}]" (here: make setup EXTRA={name}).' if name == "mlflow" else "."
        missing = f"logger={name} needs a package that is not installed ({error}). Install it{extra}"
        if not resumed:
            raise ValueError(f"{missing} Or leave {name} out of logger=.") from error
        log.warning("%s The run continues without it.", missing)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise ValueError(f"logger.{name} cannot be built: {error}") from error
    except Exception as error:
        log.debug("Traceback:", exc_info=True)
        reason = next(iter(str(error).splitlines()), "")
        log.warning(
            "The tracker logger.%s cannot be reached (%s: %s). The run continues without it. %s",
            name, type(error).__name__, reason, kind.advice,
        )  # fmt: skip
    return None

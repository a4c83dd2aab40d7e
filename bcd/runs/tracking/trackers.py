"""All trackers of a run: built from the config, told what the run is, what it gave and where its files lie, and ended."""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from lightning.fabric.utilities.exceptions import MisconfigurationException
from PIL import Image

from bcd.config.build import build
from bcd.config.processes import is_follower
from bcd.runs import folder as files
from bcd.runs.signals import RunStopped
from bcd.runs.tracking.guard import GuardedLogger
from bcd.runs.tracking.kinds import Keep, Tracker, be_patient_but_not_long, kind_of
from bcd.runs.tracking.labels import Labels
from bcd.runs.tracking.watermark import Watermark

log = logging.getLogger(__name__)

# In the run's folder: one file a tracker, which holds the tracker's id of the run.
FOLDER = "trackers"
# Name in every tracker -> path in the run's folder.
PICTURES = {"learning_curves": "learning_curves.png", "test_cases": "overlays/panel.png"}
FILES = {name: name for name in (files.CONFIG, files.METRICS, files.REPORT, "model_card.md")}
# Beside those files: there once all trackers were told what the run gave, and have ended.
_TOLD = "told"
_TEST_BLOCKS = ("lesion_images", "lesion_free_images")
# Logged after the test, which a resumed run repeats; and the config, which it tells again.
_AGAIN = ("test/", "cost/", "model/", *PICTURES, *FILES, "_hparams_/")


class Trackers:
    """The trackers of a run, as a context that ends them.

    Args:
        loggers: for Lightning's Trainer.
        follows: this is a further process of a training, whose first one tells all that is told once.
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
        """Tell what the run is.

        Args:
            config: of the run, complete.
            keep: of a run that goes on, what stays of that which was logged; None for a new run.
        """
        labels = Labels.of(config)
        if keep is not None:
            self._each("going on", lambda tracker: tracker.resume(lambda tag, step: _stays(tag) and keep(tag, step)))
        self._each("telling the config", lambda tracker: tracker.config(config, labels))

    def results(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Tell what the run gave: figures of the test and of the cost, pictures, report and model."""
        step = max(int((metrics.get("training") or {}).get("steps") or 1) - 1, 0)
        figures = result_figures(metrics)
        if figures:
            for logger in self.loggers:
                logger.log_metrics(figures, step)
        for name, path in _there(folder, PICTURES):
            self._each("a picture", _picture(name, _pixels(path), step))
        for name, path in _there(folder, {**FILES, **_model(folder)}):
            self._each(f"keeping {name}", _file(name, path, step))

    def note_told(self, folder: Path) -> None:
        """Note, once they have ended, that the trackers were told everything."""
        if self.loggers and not self.follows:
            files.write_text(folder / FOLDER / _TOLD, "")

    def _each(self, what: str, tell: Callable[[Tracker], None]) -> None:
        if self.follows:
            return
        for logger in self.loggers:
            logger.attempt(what, lambda tracker=logger.tracker: tell(tracker), None)  # type: ignore[misc]


def tell_again(config: Mapping[str, Any], folder: Path) -> None:
    """Tell the trackers of a finished run what it gave, if a kill came between its report and their end."""
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


def _stays(tag: str) -> bool:
    return not tag.startswith(_AGAIN)


def _there(folder: Path, named: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    yield from ((name, folder / path) for name, path in named.items() if (folder / path).is_file())


def _model(folder: Path) -> dict[str, str]:
    name = files.BEST if (folder / files.CHECKPOINTS / files.BEST).is_file() else files.LAST
    return {f"model/{name}": f"{files.CHECKPOINTS}/{name}"}


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _picture(name: str, pixels: np.ndarray, step: int) -> Callable[[Tracker], None]:
    return lambda tracker: tracker.picture(name, pixels, step)


def _file(name: str, path: Path, step: int) -> Callable[[Tracker], None]:
    return lambda tracker: tracker.file(name, path, step)


def _built(name: str, node: Mapping[str, Any], config: Mapping[str, Any], folder: Path, resumed: bool) -> GuardedLogger | None:
    # In two steps: what is wrong in the config is an error, what is wrong with the tracker is not.
    make = build({**node, "_partial_": True}, trusted=config.get("trusted", ()))
    kind = kind_of(make.func if inspect.isclass(make.func) else None)
    watermark = Watermark(folder / FOLDER / f"{name}.json")
    try:
        given = kind.arguments(node, Labels.of(config), watermark, Path(config["output"]))
        logger = make(**{key: value for key, value in given.items() if node.get(key) is None})
        return GuardedLogger(name, kind(logger, watermark))
    except ModuleNotFoundError as error:
        missing = f"logger={name} needs a package that is not installed ({error}). {_remedy(name)}"
        if not resumed:
            raise ValueError(f"{missing} Or leave {name} out of logger=.") from error
        log.warning("%s The run goes on without it.", missing)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise ValueError(f"logger.{name} cannot be built: {error}") from error
    except Exception as error:
        log.debug("Traceback:", exc_info=True)
        reason = next(iter(str(error).splitlines()), "")
        log.warning(
            "The tracker logger.%s cannot be reached (%s: %s). The run goes on without it. %s",
            name, type(error).__name__, reason, kind.advice,
        )  # fmt: skip
    return None


def _remedy(name: str) -> str:
    return f'Install it: pip install "bcd[{name}]" (here: make setup EXTRA={name}).' if name == "mlflow" else "Install it."

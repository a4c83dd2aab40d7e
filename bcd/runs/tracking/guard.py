"""A tracker that cannot stop a training: its first error is logged once, and after that it is not used."""

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from lightning.pytorch.loggers.logger import DummyExperiment, Logger

from bcd.runs.signals import RunStopped
from bcd.runs.tracking.kinds import Tracker

log = logging.getLogger(__name__)

T = TypeVar("T")


class GuardedLogger(Logger):
    """Any logger of Lightning's, between the training and it.

    Lightning ends a logger when fitting ends; this one is ended by `close`, since figures, report and model come after the test.

    Args:
        name: of the logger in the config, such as `wandb`.
        tracker: the logger, with what its kind can be given.

    Attributes:
        works: nothing has failed yet.
    """

    def __init__(self, name: str, tracker: Tracker) -> None:
        super().__init__()
        self.config_name = name
        self.tracker = tracker
        self.works = True

    def attempt(self, what: str, function: Callable[[], T], otherwise: T) -> T:
        """Return what a function returns; where it raises, or has raised before, return the other value.

        Raises:
            RunStopped: when the run was asked to stop meanwhile.
        """
        if not self.works:
            return otherwise
        try:
            return function()
        except Exception as error:  # any library, any server, any disk
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, RunStopped):  # which a library may have wrapped into its own
                cause = cause.__cause__ or cause.__context__
            if cause is not None:
                raise cause from None
            self._leave(what, error)
            return otherwise

    def _leave(self, what: str, error: Exception) -> None:
        """Log the error and what to do, and stop using the tracker."""
        self.works = False
        log.debug("Traceback:", exc_info=error)
        log.warning(
            "The tracker logger.%s failed at %s (%s: %s). The run continues without it, other trackers are not affected. %s",
            self.config_name,
            what,
            type(error).__name__,
            next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")[:300],
            self.tracker.advice,
        )
        try:
            self.tracker.abandon()
        except Exception:
            log.debug("Abandoning it:", exc_info=True)

    @property
    def name(self) -> str | None:
        """Return the logger's name."""
        return self.attempt("telling its name", lambda: self.tracker.logger.name, None)

    @property
    def version(self) -> int | str | None:
        """Return the logger's version, such as the tracker's id of the run."""
        return self.attempt("telling its version", lambda: self.tracker.logger.version, None)

    @property
    def save_dir(self) -> str | None:
        """Return where the logger saves."""
        return self.attempt("telling its folder", lambda: self.tracker.logger.save_dir, None)

    @property
    def experiment(self) -> Any:
        """Return the tracker's own object, whose calls are guarded as well."""
        nobody = DummyExperiment()
        experiment = self.attempt("starting", lambda: getattr(self.tracker.logger, "experiment", nobody), nobody)
        return _Guarded(self, experiment) if experiment is not nobody else nobody

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures of a step."""
        self.attempt("logging figures", lambda: self.tracker.metrics(metrics, step), None)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log settings."""
        self.attempt("logging settings", lambda: self.tracker.logger.log_hyperparams(params, *args, **kwargs), None)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Log a picture, uint8 (H, W, 3)."""
        self.attempt(f"logging the picture {name}", lambda: self.tracker.picture(name, pixels, step), None)

    def log_graph(self, *args: Any, **kwargs: Any) -> None:
        """Log the network's graph, where the logger does so."""
        self.attempt("logging the graph", lambda: self.tracker.logger.log_graph(*args, **kwargs), None)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Tell the logger that a checkpoint was written."""
        self.attempt("taking a checkpoint", lambda: self.tracker.logger.after_save_checkpoint(checkpoint_callback), None)

    def save(self) -> None:
        """Write what is still in memory."""
        self.attempt("saving", lambda: self.tracker.logger.save(), None)

    def finalize(self, status: str) -> None:
        """Save; the logger itself is ended by `close`."""
        self.save()

    def close(self, status: str) -> None:
        """End the logger."""
        self.attempt("closing", lambda: self.tracker.close(status), None)
        self.works = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "tracker" not in self.__dict__:
            raise AttributeError(name)
        return _guarded(self, name, getattr(self.tracker.logger, name))


class _Guarded:
    """An object of a tracker's, whose methods raise nothing."""

    def __init__(self, guard: GuardedLogger, inner: Any) -> None:
        self._guard = guard
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _guarded(self._guard, name, getattr(self._inner, name))


def _guarded(guard: GuardedLogger, name: str, value: Any) -> Any:
    if not callable(value):
        return value

    @functools.wraps(value)
    def call(*args: Any, **kwargs: Any) -> Any:
        return guard.attempt(name, lambda: value(*args, **kwargs), None)

    return call

"""A command: checked before anything heavy is imported, run by Hydra, ended with an error message if something is wrong."""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from bcd.config import arguments as command_line
from bcd.config.composing import check, plain, register_resolvers
from bcd.config.errors import ConfigError
from bcd.config.options import help_text, options_text

log = logging.getLogger(__name__)

Command = Callable[[dict[str, Any], Path], None]

INTERRUPTED = 130
# Errors that say what a user can do about them.
_MENDABLE = (ValueError, OSError, RuntimeError)


def command(config_name: str, sweeper: str | None = None) -> Callable[[Command], Callable[[], None]]:
    """Make a function `(config, run folder)` a Hydra command over `conf/<config_name>.yaml`.

    Args:
        config_name: of the primary config.
        sweeper: module whose `register` makes a sweeper of ours known to Hydra, imported for a sweep alone.

    Errors that a user can fix (ValueError, OSError, RuntimeError raised with a sentence) end the program with that sentence and
    exit status 1, or 2 where the command line, or what it names, cannot work, and nothing was started; `BCD_FULL_ERROR=1` shows
    the traceback. Ctrl-C ends it with 130.
    """

    def decorate(function: Command) -> Callable[[], None]:
        def main() -> None:
            try:
                _main(function, config_name, sweeper)
            except ConfigError as error:
                _leave(error, 2)
            except KeyboardInterrupt as interrupt:
                _leave(f"Interrupted. {interrupt}".strip(), INTERRUPTED)

        return main

    return decorate


def _main(function: Command, config_name: str, sweeper: str | None) -> None:
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(help_text(config_name, function.__doc__ or ""))
        return
    make_importable()
    line = command_line.read(arguments, config_name)
    if "--options" in line.flags:
        sys.stdout.write(options_text(line.config_name, line.folders))
        return
    command_line.check_folder(line)
    if not line.raw:
        check(line)
        sys.argv[1:] = line.arguments()
    if line.multirun and sweeper is not None:
        importlib.import_module(sweeper).register()
    _run(function, line)


def make_importable() -> None:
    """Let a package that lies where the command was started be imported, after everything that is installed."""
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))


def _run(function: Command, line: command_line.CommandLine) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode

    register_resolvers()
    begun = False

    @hydra.main(config_path=str(line.home), config_name=line.config_name, version_base="1.3")
    def job(config: Any) -> None:
        nonlocal begun
        begun = True
        make_importable()  # in the process of a launcher, too
        try:
            function(plain(config), Path(HydraConfig.get().runtime.output_dir))
        except _MENDABLE as error:
            log.debug("Traceback:", exc_info=True)
            if _wants_traceback() or HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            _leave(error, 1)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us as they are; Hydra would print some, and leave
    try:
        job()
    except (HydraException, *_MENDABLE) as error:
        if _wants_traceback():
            raise
        reason = error if isinstance(error, OSError) else error.__cause__  # Python's logging wraps it
        if isinstance(reason, OSError) and not begun:
            way_out = "Make room, allow writing, or choose another folder: output=... or hydra.run.dir=..."
            _leave(f"No folder for the run can be made, or written to: {reason}. {way_out}", 1)
        _leave(error, 2 if isinstance(error, HydraException) and not begun else 1)


def _wants_traceback() -> bool:
    return bool(os.environ.get("BCD_FULL_ERROR"))


def _leave(message: object, status: int) -> NoReturn:
    if isinstance(message, Exception) and _was_interrupted(message):
        message, status = "Interrupted.", INTERRUPTED
    sys.stderr.write(f"error: {message}\n" if status != INTERRUPTED else f"{message}\n")
    raise SystemExit(status)


def _was_interrupted(error: BaseException) -> bool:
    """Return whether Ctrl-C is behind an error: OmegaConf, interrupted, may fail in its clearing up, and raise that instead."""
    behind: list[BaseException] = [error]
    for one in behind:
        behind += [cause for cause in (one.__cause__, one.__context__) if cause is not None and cause not in behind]
    return any(isinstance(one, KeyboardInterrupt) for one in behind)

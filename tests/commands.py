"""The project's commands, called in this process: what is imported once is imported once."""

import io
import logging
import runpy
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run_script(folder: Path, name: str, *arguments: str) -> CompletedProcess[str]:
    """Run `scripts/<name>.py` in a folder; see `run_main`."""
    path = SCRIPTS / f"{name}.py"
    return run_main(lambda: runpy.run_path(str(path), run_name="__main__"), folder, str(path), *arguments)


def run_main(main: Callable[[], object], folder: Path, name: str, *arguments: str) -> CompletedProcess[str]:
    """Run a command in a folder; return its exit status and what it printed. Logging and settings stay as they were."""
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    if (absl := sys.modules.get("absl.logging")) is not None:  # Hydra closes every handler, and absl's closes its stream, pytest's
        absl.get_absl_handler().python_handler.stream = sys.__stderr__
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.chdir(folder)
        patch.setenv("HYDRA_FULL_ERROR", "1")  # a command sets it, too
        patch.setattr(sys, "path", sys.path[:])
        patch.setattr(sys, "argv", [name, *arguments])
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            for handler in root.handlers:
                if handler not in handlers:
                    handler.close()
            root.handlers[:], logging.raiseExceptions = handlers, raises
            root.setLevel(level)
    return CompletedProcess([name, *arguments], status, stdout.getvalue(), stderr.getvalue())

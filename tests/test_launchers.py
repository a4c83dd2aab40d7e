"""Commands started elsewhere: on this machine, as SLURM jobs, as Ray tasks."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bcd.config import ConfigError, compose
from bcd.config.arguments import read
from bcd.config.build import build
from bcd.config.composing import check
from bcd.launchers.command import PARENT, Command
from bcd.launchers.local import LocalLauncher
from bcd.launchers.slurm import SubmittedCommand
from bcd.runs.folder import read_config
from bcd.runs.studies.crossval import crossval


def _python(code: str, **options: Any) -> Command:
    return Command((sys.executable, "-c", code), **options)


def _launcher(*words: str) -> Any:
    return build(compose("predict", ["input=.", "output=o", *words])["launcher"])


def test_a_command_gets_its_environment_folder_and_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")  # of the process that starts it
    names = f"print(*(os.environ.get(name) for name in ('A', '{PARENT}', 'SLURM_PROCID')), os.getcwd()); raise SystemExit(3)"
    command = _python(f"import os; {names}", environment={"A": "b"}, log=tmp_path / "log", folder=tmp_path)
    assert command.run() == 3
    assert (tmp_path / "log").read_text().split() == ["b", str(os.getpid()), "None", str(tmp_path)]
    assert str(command).startswith(f"A=b {sys.executable} -c '")


def test_local_runs_no_more_at_a_time_than_it_has_workers_and_returns_every_status(tmp_path: Path) -> None:
    code = (
        "import os, time; open(f'{os.getpid()}.on', 'w'); n = len([f for f in os.listdir() if f.endswith('.on')]); time.sleep(.2); "
    )
    code += "os.remove(f'{os.getpid()}.on'); raise SystemExit(n)"
    statuses = LocalLauncher(workers=2).run([_python(code, folder=tmp_path)] * 5, tmp_path)
    assert len(statuses) == 5
    assert set(statuses) <= {1, 2}


def test_local_shares_cores_and_gpus_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    launcher = LocalLauncher(workers=4, gpus=[0, 1])
    assert [launcher.cores(place) for place in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [launcher.share(place)["CUDA_VISIBLE_DEVICES"] for place in range(4)] == ["0", "1", "0", "1"]
    assert {launcher.share(place)["OMP_NUM_THREADS"] for place in range(4)} == {"2"}
    assert LocalLauncher(workers=1, gpus=[0, 1]).share(0) == {"CUDA_VISIBLE_DEVICES": "0,1"}
    with pytest.raises(ValueError, match="workers"):
        build({"_target_": "bcd.launchers.local.LocalLauncher", "workers": 0})


_INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from bcd.launchers.command import Command
from bcd.launchers.local import LocalLauncher
command = Command((sys.executable, "-c", "open('began', 'w'); import time; time.sleep(600)"))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background pass Ctrl-C over
try:
    command.run() if sys.argv[1] == "alone" else LocalLauncher(workers=2).run([command], Path())
except KeyboardInterrupt:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        sys.exit("none is left")
"""


@pytest.mark.parametrize("way", ["alone", "launched"])
def test_commands_end_with_the_process_that_started_them(way: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", _INTERRUPTED, way]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "began").exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1] == "none is left\n"


def test_launchers_describe_what_they_would_start(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit, which writes SLURM's scripts, is not installed")
    commands, logs = [Command(("bcd", "a b"))] * 3, tmp_path / "lr" / "slurm"
    options = ["launcher.workers=2", "launcher.partition=gpu", "launcher.hours=1.5", "launcher.setup=[module load cuda]"]
    script = _launcher("launcher=slurm", *options, "+launcher.more.nice=5").describe(commands, logs)
    directives = (
        "partition=gpu",
        "gpus-per-node=1",
        "mem=32GB",
        "time=90",
        "array=0-2%2",
        "job-name=lr",
        "nice=5",
        "signal=USR2@120",
    )
    assert {f"#SBATCH --{directive}" for directive in directives} <= {*script.splitlines()}
    assert "module load cuda" in script.splitlines()
    assert script.count("bcd 'a b'") == 3
    assert "2 tasks at a time of 1 CPUs" in _launcher("launcher=ray").describe(commands, logs)
    assert _launcher("launcher=local", "launcher.workers=3").describe(commands, logs).count("bcd 'a b'") == 3


def test_a_command_that_slurm_preempts_ends_and_is_queued_again(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); open('began', 'w'); time.sleep(600)"
    submitted, again = SubmittedCommand(_python(code, folder=tmp_path)), []

    def preempt(*_: object) -> None:
        os.killpg(submitted._process.pid, signal.SIGUSR2)  # type: ignore[union-attr] # SLURM warns all processes of a job
        again.append(submitted.checkpoint())

    before = signal.signal(signal.SIGUSR2, preempt)
    try:
        thread = threading.Thread(target=_warn, args=(tmp_path / "began",))
        thread.start()
        assert submitted() == 5  # and no -SIGUSR2
        thread.join()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert again[0].function.command == submitted.command


def _warn(began: Path) -> None:
    while not began.exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGUSR2)


@pytest.mark.parametrize("launcher", ["local", "slurm", "ray"])
def test_a_launcher_is_for_a_prediction_too_and_its_options_are_checked(launcher: str, tmp_path: Path) -> None:
    words = [f"bundle={tmp_path}", f"input={tmp_path}", "output=o", f"launcher={launcher}", "launcher.workers=2"]
    check(read(words, "predict"))
    with pytest.raises(ConfigError, match="worker"):
        check(read([*words, "launcher.worker=2"], "predict"))


_SMALL = [
    *("data.source.n_images=60", "data.folds=3", "preprocess.size=32", "trainer.max_epochs=1", "logger=[csv]", "folds=[1,2]"),
    *("model=unet", "model.encoder=resnet10t", "model.decoder_channels=[16,8,8,8,8]"),
]


def test_a_cross_validation_shows_what_its_launcher_would_start_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    folder = tmp_path / "folds"
    words = [*_SMALL, f"output={tmp_path}", "launcher=slurm", "launcher.partition=gpu", "launcher.dry_run=true"]
    check(read(words, "crossval"))
    with pytest.raises(SystemExit) as ended:
        crossval(compose("crossval", words, folder), folder)
    script = capsys.readouterr().out
    assert ended.value.code == 0
    assert "#SBATCH --partition=gpu" in script
    assert all(f"resume={folder}/fold_{fold}" in script for fold in (1, 2))
    assert not folder.exists()
    with pytest.raises(ValueError, match="jobs="):
        crossval(compose("crossval", [*words, "jobs=2"], folder), folder)


@pytest.mark.slow
def test_folds_are_started_by_a_launcher_and_joined(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    folder = tmp_path / "folds"
    words = [*_SMALL, f"output={tmp_path}", "launcher=slurm", "launcher.cluster=local", "launcher.hours=1"]
    metrics = crossval(compose("crossval", words, folder), folder)
    assert [entry["fold"] for entry in metrics["test"]["folds"]] == [1, 2]
    assert all((folder / f"fold_{fold}" / "process.log").stat().st_size for fold in (1, 2))
    assert len(list((folder / "slurm").glob("*_result.pkl"))) == 2
    assert "launcher" not in read_config(folder / "fold_1")


def test_launchers_of_before_are_found_or_their_replacement_is_named() -> None:
    old = {"_target_": "bcd.sweeps.launchers.local.LocalLauncher", "workers": 2, "gpus": [], "dry_run": False}
    assert build(old).workers == 2
    with pytest.raises(ConfigError, match=r"joblib.*launcher=local launcher\.workers="):
        read(["-m", "seed=0,1", "launcher=joblib"], "train")
    with pytest.raises(ConfigError, match="launcher=slrum"):
        read(["launcher=slrum"], "predict")

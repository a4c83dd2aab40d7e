"""Sweeps: nothing is lost, nothing is done twice, whatever is killed; and what is asked wrongly is refused."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_results import fake_cases
from optuna.distributions import BaseDistribution
from optuna.trial import Trial, TrialState, create_trial

from bcd.config import CONF, ConfigError, compose
from bcd.config.arguments import read
from bcd.config.composing import check
from bcd.config.search_space import Dimension
from bcd.runs import folder as files
from bcd.runs.planning.probe import Pace
from bcd.runs.signals import RunStopped
from bcd.runs.testing.results import Tables, _write_tables
from bcd.runs.training.sweep_job import open_storage
from bcd.sweeps import charts, worker
from bcd.sweeps.estimate import Cost, in_words, training_seconds
from bcd.sweeps.ledger import Claim, Job, JobLock, Ledger, ranked
from bcd.sweeps.plan import (
    Plan,
    SweepError,
    as_overrides,
    check_same,
    directed,
    distributions,
    grid_point,
    lies_in,
    read_plan,
    settle,
)  # fmt: skip
from bcd.sweeps.report import report, write_best_config
from bcd.sweeps.sweep import make_plan, sweep
from bcd.sweeps.uncertainty import importance, ranking_uncertainty
from bcd.sweeps.worker import prepare, work, worker_command
from benchmarks.sweeps import _FIXED

FAKE = Path(__file__).with_name("fake_sweep.py")
SETTINGS = yaml.safe_load((CONF / "sweep" / "default.yaml").read_text())
RATES = Dimension("optimizer.lr", ("0.001", "0.01"))
SEEDS = Dimension("seed", ("0", "1", "2"))


def _start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "PYTHONWARNINGS": "error"}
    command = [sys.executable, str(FAKE), "-m", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def _run(folder: Path, *words: str) -> tuple[int, str]:
    process = _start(folder, *words)
    said = process.communicate()[0]
    return process.returncode, said


def _children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [int(child) for child in found]


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.is_file() else []


def _plan(folder: Path, *dimensions: Dimension, **settings: object) -> Plan:
    merged = settle({**SETTINGS, **settings}, dimensions)
    plan = Plan("s", folder, (), tuple(dimensions), merged, {"val/dice": "maximize"}, (), folder)
    folder.mkdir(exist_ok=True)
    plan.write()
    return plan


def _claim(ledger: Ledger) -> Claim:
    claim = ledger.claim()
    assert claim is not None
    return claim


def _finish(ledger: Ledger, **figures: float) -> Claim:
    """Do the next job."""
    claim = _claim(ledger)
    ledger.settle(claim, _done(**figures), 1.0, str(claim.number))
    claim.lock.release()
    return claim


def _done(**figures: float) -> dict[str, object]:
    return {"state": "done", "figures": {name.replace("__", "/"): value for name, value in figures.items()}}


@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_does_every_job_exactly_once(tmp_path: Path) -> None:
    words = ["optimizer.lr=1e-3,3e-3,1e-2,3e-2", "seed=0,1,2", "sweep.name=killed", "launcher.workers=2"]
    folder, draw = tmp_path / "outputs" / "sweeps" / "killed", random.Random(0)
    for finished in (1, 3, 6):  # not by the clock: machines differ
        process = _start(tmp_path, *words)
        while len(_lines(folder / "finished.txt")) < finished and process.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.random())
        for pid in (*_children(process.pid), process.pid):  # workers and driver; jobs may live on
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
    status, said = _run(tmp_path, *words)
    assert status == 0, said
    jobs = [f"trial_{number:04d}" for number in range(12)]
    assert Counter(_lines(folder / "finished.txt")) == Counter(jobs)
    assert sorted(path.name for path in folder.glob("trial_*")) == jobs
    known = Ledger(read_plan(folder), "look").jobs()
    assert [job.state for job in known] == ["done"] * 12
    assert [dict(job.params) for job in known] == [grid_point(read_plan(folder).dimensions, number) for number in range(12)]
    status, said = _run(tmp_path, *words)  # once more: nothing is left to do
    assert (status, len(_lines(folder / "finished.txt"))) == (0, 12)
    assert "12 of them finished" in said


@pytest.mark.slow
def test_one_failed_job_does_not_end_the_sweep_and_the_next_go_tries_it_again(tmp_path: Path) -> None:
    words = ["optimizer.lr=0.5,1e-3", "sweep.name=fails"]
    folder = tmp_path / "outputs" / "sweeps" / "fails"
    status, said = _run(tmp_path, *words)
    assert status == 1
    assert "1 of 2 jobs failed" in said
    assert "trial 1 (trial_0000): the rate is too high." in said
    assert _lines(folder / "finished.txt") == ["trial_0001"]
    table = pd.read_csv(folder / "leaderboard.csv")
    assert table["state"].tolist() == ["done", "failed"]
    assert "the rate is too high." in (folder / "report.html").read_text()
    assert "ERROR Trial 1 failed: the rate is too high." in (folder / "sweep.log").read_text()
    _run(tmp_path, *words)
    assert Counter(_lines(folder / "began.txt")) == {"trial_0000": 2, "trial_0001": 1}
    status, said = _run(tmp_path, *words, "optimizer.weight_decay=0.1")
    assert status == 1
    assert "holds another sweep: fixed is optimizer.weight_decay=0.1, was" in said
    assert "sweep.name=fails-2" in said


@pytest.mark.parametrize(("signum", "workers"), [pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow), (signal.SIGINT, 2)])
def test_a_sweep_that_is_stopped_says_so_and_takes_up_what_was_at_work(tmp_path: Path, signum: int, workers: int) -> None:
    words = ["optimizer.lr=1e-3,3e-3,1e-2,3e-2", "sweep.name=asked", f"launcher.workers={workers}"]
    folder = tmp_path / "outputs" / "sweeps" / "asked"
    process = _start(tmp_path, *words)
    while len(_lines(folder / "began.txt")) < 1 + workers and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signum)
    said = process.communicate()[0]
    assert process.returncode == 128 + signum, said
    assert "the same command continues: sweep.name=asked" in said
    left = Ledger(read_plan(folder), "look").jobs()
    assert {job.state for job in left} <= {"done", "stopped"}, said  # nobody is at any
    stopped = [job for job in left if job.state == "stopped"]
    assert stopped
    assert {job.reason for job in stopped} <= {"stopped by SIGINT", "stopped by SIGTERM"}  # the driver passes on SIGTERM
    assert _run(tmp_path, *words)[0] == 0
    jobs = Ledger(read_plan(folder), "look").jobs()
    assert [job.state for job in jobs] == ["done"] * 4
    written = (folder / "sweep.log").read_text()
    assert f"WARNING Stopped by {signal.Signals(signum).name}." in written
    for job in stopped:
        assert re.search(rf"INFO Trial {job.number + 1} of 4, .* once more, after: stopped by SIG", written)
    assert sorted(re.findall(r"Trial (\d) of 4, [^,]*$", written, flags=re.MULTILINE)) == ["1", "2", "3", "4"]
    assert "Sweep asked: 4 done, 0 pruned, 0 failed." in written


def test_a_worker_in_a_process_of_its_own_writes_into_the_log_of_the_sweep(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    _plan(folder, Dimension("model", ("nonesuch",)))
    command = worker_command(folder, "one")
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(CONF.parent)})
    written = (folder / "sweep.log").read_text()
    assert "INFO Trial 1 of 1, model=nonesuch." in written
    assert "ERROR Trial 1 failed: model=nonesuch: there is no such option." in written


def test_after_a_stop_nothing_is_begun_in_this_go_and_all_in_the_next(tmp_path: Path) -> None:
    ledger = Ledger(_plan(tmp_path / "s", RATES), "one")
    claim = _claim(ledger)
    ledger.fail(claim, "broken")
    claim.lock.release()
    ledger.stop()
    assert ledger.claim() is None
    assert ledger.is_over()
    assert _claim(Ledger(ledger.plan, "two")).number == 0


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (2, 3)])
def test_a_crashed_job_is_tried_again_as_often_as_said(tmp_path: Path, retries: int, attempts: int) -> None:
    ledger = Ledger(_plan(tmp_path / "s", Dimension("seed", ("0",)), retries=retries), "one")
    while (claim := ledger.claim()) is not None:
        ledger.fail(claim, "broken")
        claim.lock.release()
    job = ledger.jobs()[0]
    assert (job.state, job.attempts, job.reason) == ("failed", attempts, "broken")
    assert ledger.is_over()


@pytest.mark.slow
def test_tpe_stops_at_its_total_goes_on_to_a_higher_one_and_leaves_a_recipe(tmp_path: Path) -> None:
    words = ["optimizer.lr=tag(log,interval(1e-4,1e-1))", "loss=dice_bce,tversky", "sweep.name=tpe", "sweep.startup=2"]
    folder = tmp_path / "outputs" / "sweeps" / "tpe"
    assert _run(tmp_path, *words, "sweep.n_trials=3")[0] == 0
    assert len(_lines(folder / "finished.txt")) == 3
    status, said = _run(tmp_path, *words, "sweep.n_trials=6")
    assert status == 0, said
    rates = [job.params["optimizer.lr"] for job in Ledger(read_plan(folder), "look").jobs()]
    assert len(set(rates)) == 6  # no draw repeats after a restart
    table = pd.read_csv(folder / "leaderboard.csv")
    assert table["val/dice"].is_monotonic_decreasing
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["states"] == {"done": 6, "pruned": 0, "running": 0, "stopped": 0, "failed": 0}
    assert set(summary["importance"]) == {"optimizer.lr", "loss"}
    config = compose("train", [f"--config-dir={folder / 'conf'}", "experiment=tpe"])
    best = summary["best"]["params"]
    assert config["optimizer"]["lr"] == best["optimizer.lr"]
    assert ("Tversky" in config["loss"]["_target_"]) == (best["loss"] == "tversky")
    for picture in ("course", "importance", "parallel", "slices"):
        assert (folder / f"{picture}.png").stat().st_size > 5000


def test_a_job_whose_process_died_is_taken_over_in_its_folder(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "s", RATES)
    first = _claim(Ledger(plan, "one"))
    assert _claim(Ledger(plan, "two")).number == 1
    first.lock.release()  # as the system does after a kill
    again = _claim(Ledger(plan, "two"))
    assert (again.number, again.folder, again.overrides) == (0, first.folder, first.overrides)
    assert again.before == "its process was killed"


def test_a_job_that_was_entered_and_not_begun_goes_before_one_that_was_left(tmp_path: Path) -> None:
    ledger = Ledger(_plan(tmp_path / "s", RATES), "one")
    left = _claim(ledger)
    left.lock.release()  # as the system does after a kill
    ledger.study.enqueue_trial({"optimizer.lr": "0.01"}, user_attrs={"job": 1})  # and the other worker was killed, too
    claims = [_claim(Ledger(ledger.plan, "two")) for _ in range(2)]
    assert [(claim.number, claim.overrides) for claim in claims] == [(1, ("optimizer.lr=0.01",)), (0, left.overrides)]
    assert Ledger(ledger.plan, "two").claim() is None


def test_a_job_that_was_killed_before_it_had_all_its_values_keeps_its_place_in_the_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, take = Ledger(_plan(tmp_path / "s", RATES, SEEDS), "one"), Trial._suggest

    def killed(trial: Trial, name: str, distribution: BaseDistribution) -> object:
        if name == "seed":
            raise KeyboardInterrupt
        return take(trial, name, distribution)

    monkeypatch.setattr(Trial, "_suggest", killed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            ledger.claim()
    monkeypatch.undo()
    claims = [Ledger(ledger.plan, "two").claim() for _ in range(6)]
    assert [claim.trial.params for claim in claims if claim is not None] == [grid_point((RATES, SEEDS), n) for n in range(6)]


def test_nobody_looks_at_a_claim_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, other = (Ledger(_plan(tmp_path / "s", RATES), name) for name in ("one", "two"))
    seen: list[bool] = []
    look, take = threading.Thread(target=lambda: seen.append(other.running())), JobLock.acquire

    def acquire(lock: JobLock) -> bool:
        if look.ident is None:
            look.start()
            look.join(0.3)
        return take(lock)

    monkeypatch.setattr(JobLock, "acquire", acquire)
    assert ledger.claim() is not None
    look.join()
    assert seen == [True]


def test_a_request_that_comes_while_a_job_is_started_stops_that_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, begun, start = _plan(tmp_path / "s", RATES), list[subprocess.Popen[bytes]](), subprocess.Popen
    monkeypatch.chdir(tmp_path)  # the worker changes it
    monkeypatch.setattr("bcd.sweeps.worker.job_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])

    def interrupted(*arguments: object, **options: object) -> "subprocess.Popen[bytes]":
        begun.append(start(*arguments, **options))  # type: ignore[call-overload]
        os.kill(os.getpid(), signal.SIGTERM)
        return begun[-1]

    monkeypatch.setattr("subprocess.Popen", interrupted)
    try:
        with pytest.raises(RunStopped, match="SIGTERM"):
            work(plan.folder, "one")
        assert [process.poll() for process in begun] == [-signal.SIGTERM]
    finally:
        begun[0].kill()
        begun[0].wait()
    assert [(job.state, job.reason) for job in Ledger(plan, "look").jobs()] == [("stopped", "stopped by SIGTERM")]


def test_a_claim_of_another_machine_counts_until_nobody_has_touched_it_for_minutes(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "s", RATES)
    here, there = Ledger(plan, "one"), Ledger(plan, "two")
    there._host = "another"
    claim = _claim(there)
    claim.lock.release()  # as a file system does that shows no locks of other machines
    assert _claim(here).number == 1
    assert here.running()
    long_ago = time.time() - 301
    os.utime(claim.lock.path, (long_ago, long_ago))
    assert _claim(here).number == 0


def test_the_same_command_given_twice_at_once_shares_the_jobs(tmp_path: Path) -> None:
    words = ["optimizer.lr=1e-3,3e-3,1e-2", "seed=0,1", "sweep.name=both"]
    both = [_start(tmp_path, *words) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    folder = tmp_path / "outputs" / "sweeps" / "both"
    assert Counter(_lines(folder / "finished.txt")) == Counter(f"trial_{number:04d}" for number in range(6))
    assert [job.attempts for job in Ledger(read_plan(folder), "look").jobs()] == [1] * 6


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_search_that_is_taken_up_draws_what_one_that_was_not_stopped_draws(sampler: str, tmp_path: Path) -> None:
    space = (Dimension("optimizer.lr", (), 1e-4, 1e-1, log=True), Dimension("loss", ("bce", "dice")))
    drawn = []
    for name, sessions in (("whole", ["one"] * 8), ("stopped", ["one", "two", "two", "three", "four", "five", "six", "six"])):
        plan = _plan(tmp_path / name, *space, sampler=sampler, n_trials=8, startup=3)
        params = []
        for number, session in enumerate(sessions):
            ledger = Ledger(plan, session)
            params.append(_finish(ledger, val__dice=0.5 + 0.01 * (number % 3)).trial.params)
        assert Ledger(plan, "more").claim() is None  # n_trials is a total
        drawn.append(params)
    assert drawn[0] == drawn[1]
    if sampler != "nsga2":  # its offspring keep values of their parents
        assert len({params["optimizer.lr"] for params in drawn[0]}) == 8
    assert all(1e-4 <= params["optimizer.lr"] <= 1e-1 for params in drawn[0])


def test_jobs_belong_to_their_sweep_unless_told_otherwise(tmp_path: Path) -> None:
    for name, fixed, group in (("s", (), "s"), ("t", ("group=paper",), "paper")):
        plan = replace(_plan(tmp_path / name, RATES), fixed=fixed)
        ledger = Ledger(plan, "one")
        claim = _claim(ledger)
        prepare(ledger, claim)
        assert yaml.safe_load((claim.folder / files.CONFIG).read_text())["group"] == group


def test_a_job_that_another_process_is_at_is_left_alone(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "s", Dimension("optimizer.lr", ("0.001",)))
    ledger = Ledger(plan, "one")
    claim = _claim(ledger)
    other = Ledger(plan, "two")
    assert other.claim() is None
    assert other.running()
    assert not other.is_over()
    ledger.settle(claim, _done(val__dice=0.7), 1.0, "abc")
    claim.lock.release()
    assert other.is_over()
    assert other.jobs()[0].values == (0.7,)


def test_what_a_pruned_job_had_reported_is_known_to_the_attempt_that_goes_on(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "s", RATES, pruner="asha", least_validations=1)
    ledger = Ledger(plan, "one")
    claim = _claim(ledger)
    claim.trial.report(0.5, 1)
    assert not claim.trial.should_prune()
    claim.lock.release()
    again = _claim(Ledger(plan, "two"))
    known = ledger.study.get_trials()[again.trial.number]
    assert known.intermediate_values == {1: 0.5}
    assert known.system_attrs["completed_rung_0"] == 0.5  # and is not judged there again, with what it reaches later
    assert again.trial.number == claim.trial.number


def test_a_job_without_the_figure_that_is_judged_has_failed(tmp_path: Path) -> None:
    ledger = Ledger(_plan(tmp_path / "s", RATES), "one")
    _finish(ledger, val__auroc=0.7)
    job = ledger.jobs()[0]
    assert job.state == "failed"
    assert "val/dice" in job.reason
    assert "val/auroc" in job.reason


def test_jobs_of_another_sweep_that_lie_in_the_space_count(tmp_path: Path) -> None:
    old = Ledger(_plan(tmp_path / "s", RATES), "one")
    for value in (0.6, 0.7):
        _finish(old, val__dice=value)
    new = Ledger(_plan(tmp_path / "t", Dimension("optimizer.lr", ("0.01", "0.1"))), "two")
    assert new.take_over(old) == new.take_over(old) == 1
    assert len(new.jobs()) == 1
    assert not new.has_begun()
    claim = _claim(new)
    assert claim.overrides == ("optimizer.lr=0.1",)
    assert new.has_begun()
    assert new.jobs()[0].values == (0.7,)


def test_jobs_that_count_are_all_there_though_a_kill_came_between_two_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Ledger(_plan(tmp_path / "s", SEEDS), "one"), Ledger(_plan(tmp_path / "t", SEEDS), "two")
    for _ in range(3):
        _finish(old, val__dice=0.6)
    left, enter = [True, False], new.study.add_trial
    monkeypatch.setattr(new.study, "add_trial", lambda trial: enter(trial) if left.pop(0) else pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        new.take_over(old)
    again = Ledger(new.plan, "three")
    assert not again.has_begun()
    again.take_over(old)
    assert [(job.number, job.params["seed"], job.attempts) for job in again.jobs()] == [(0, "0", 1), (1, "1", 1), (2, "2", 1)]
    assert again.is_over()


def test_a_sweep_of_a_version_before_is_read_and_goes_on(tmp_path: Path) -> None:
    """There each attempt at a job was a trial, closed as failed where it had crashed or was killed."""
    ledger = Ledger(_plan(tmp_path / "s", SEEDS, Dimension("batch_size", ("8", "16"))), "new")
    space = distributions(ledger.plan.dimensions)
    crashed, killed = {"reason": "broken", "killed": False, "seconds": 2.0}, {"reason": "its process was killed", "killed": True}
    for job, state, about in (
        (0, TrialState.FAIL, killed),
        (0, TrialState.COMPLETE, {"figures": {"val/dice": 0.7}, "seconds": 3.0, "folder": "trial_0000"}),
        (1, TrialState.FAIL, killed),
        (2, TrialState.FAIL, crashed),
        (3, TrialState.RUNNING, {}),
        (4, TrialState.PRUNED, {"figures": {"val/dice": 0.4}}),
    ):
        params = grid_point(ledger.plan.dimensions, job)
        about = {"job": job, "session": "old", "host": ledger._host, "pid": 1} | about
        value = 0.7 if state == TrialState.COMPLETE else None
        ledger.study.add_trial(create_trial(state=state, params=params, distributions=space, value=value, user_attrs=about))
    jobs = ledger.jobs()
    assert [job.state for job in jobs] == ["done", "stopped", "failed", "stopped", "pruned"]
    assert (jobs[0].values, jobs[2].reason) == ((0.7,), "broken")
    claims = [ledger.claim() for _ in range(5)]
    assert [claim and claim.number for claim in claims] == [1, 2, 3, 5, None]
    for claim in claims[:-1]:
        assert claim is not None
        assert claim.trial.params == grid_point(ledger.plan.dimensions, claim.number)
        ledger.settle(claim, _done(val__dice=0.6), 1.0, "")
    assert [job.state for job in ledger.jobs()] == ["done"] * 4 + ["pruned", "done"]


def test_a_journal_that_a_kill_cut_off_in_a_line_is_mended(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "s", RATES)
    assert Ledger(plan, "one").claim() is not None
    journal = plan.folder / "ledger.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    assert len(Ledger(plan, "two").jobs()) == 1
    assert journal.read_bytes().startswith(whole)
    for line in journal.read_text().splitlines():
        json.loads(line)


def test_the_ledger_may_be_a_database(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "s", RATES, storage=f"sqlite:///{tmp_path / 'ledger.db'}")
    _claim(Ledger(plan, "one"))
    assert Ledger(plan, "two").jobs()[0].params == {"optimizer.lr": "0.001"}
    assert not (plan.folder / "ledger.log").exists()
    assert open_storage(plan.storage).get_all_studies()[0].study_name == "s"


@pytest.mark.parametrize("objective", ["dice", "test/dice", "auroc", "test"])
def test_a_test_figure_is_no_objective(objective: str) -> None:
    with pytest.raises(SweepError, match="test figures choose nothing"):
        directed(objective, None, {"val/dice": "max"})


def test_objectives_have_the_direction_that_is_known_of_them() -> None:
    assert directed(None, None, {"val/auroc": "max"}) == {"val/auroc": "maximize"}
    assert directed(["val/dice", "latency_ms"], None, {}) == {"val/dice": "maximize", "latency_ms": "minimize"}
    assert directed("val/loss", ["maximize"], {}) == {"val/loss": "maximize"}
    with pytest.raises(SweepError, match="judged by different figures"):
        directed(None, None, {"val/dice": "max", "val/auroc": "max"})
    with pytest.raises(SweepError, match="give maximize or minimize for each"):
        directed("val/loss", ["up"], {})


@pytest.mark.parametrize(
    ("dimensions", "settings", "said"),
    [
        ([], {}, "A sweep varies something"),
        ([Dimension("a", (), 1, 2)], {}, "add sweep.n_trials=20"),
        ([Dimension("a", (), 1, 2)], {"sampler": "grid"}, "a is an interval"),
        ([RATES], {"sampler": "random"}, "add sweep.n_trials=20"),
        ([RATES], {"objective": ["val/dice", "latency_ms"], "pruner": "asha"}, "A pruner needs one objective"),
    ],
)
def test_settings_that_cannot_be_together_are_refused(
    dimensions: Sequence[Dimension], settings: dict[str, object], said: str
) -> None:
    with pytest.raises(SweepError, match=re.escape(said)):
        settle({**SETTINGS, **settings}, dimensions)


def test_jobs_that_monitor_different_figures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="judged by different figures"):
        make_plan([], [Dimension("model", ("unet", "resnet18"))], SETTINGS, tmp_path)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b"])
def test_a_name_that_is_no_folders_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="it names a folder"):
        make_plan([], [RATES], {**SETTINGS, "name": name}, tmp_path)


def test_a_sweeps_name_follows_from_what_it_is(tmp_path: Path) -> None:
    one, two, three = (
        make_plan(fixed, [RATES], {**SETTINGS, "n_trials": n}, tmp_path) for fixed, n in ((["seed=1"], 1), (["seed=1"], 2), ([], 1))
    )
    assert one.name == two.name != three.name
    assert one.name.startswith("phantom-unet-")
    check_same(two, one)
    with pytest.raises(SweepError, match="holds another sweep"):
        check_same(three, one)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep=lr"], "sweep=lr is for a sweep; add -m"),
        (["launcher.workers=2"], "is for a sweep; add -m"),
        (["-m", "sweep.pruner=ahsa", "seed=0,1"], "Did you mean 'asha'?"),
        (["-m", "sweep=lr", "optimizer=sgd", "+sweep.space.optimizer.momentun=0.5,0.9"], "momentun"),
        (["-m", "launcher.workers=0", "seed=0,1"], "launcher.workers"),
        (["-m", "sweep=lrr"], "there is no such option"),
        (["--config-name=crossval", "-m", "sweep=lr", "seed=0,1"], "is for python scripts/train.py -m"),
    ],
)
def test_a_mistake_stops_before_the_first_job(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(read(words, "train"))
    assert said in str(caught.value)


def test_every_sweep_that_we_offer_can_be_planned(tmp_path: Path) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from bcd.config.search_space import as_overrides as typed
    from bcd.config.search_space import split

    for path in sorted((CONF / "sweep").glob("*.yaml")):
        settings = {**SETTINGS, **{key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "defaults"}}
        if path.stem == "default":
            continue
        _, dimensions = split(OverridesParser.create().parse_overrides(typed(settings["space"])))
        plan = make_plan([], dimensions, settings, tmp_path)
        assert plan.n_trials > 1
        assert plan.objectives == {"val/dice": "maximize"}


def test_a_dry_run_of_a_launcher_shows_its_script_and_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("submitit")
    caplog.set_level("INFO")
    node = {**yaml.safe_load((CONF / "launcher" / "slurm.yaml").read_text()), "dry_run": True, "partition": "gpu"}
    plan = make_plan([], [RATES], {**SETTINGS, "name": "dry"}, tmp_path)
    assert sweep(plan, node) == []
    assert "launcher.dry_run: nothing was started." in caplog.text
    assert "#SBATCH --partition=gpu" in caplog.text
    assert not list(tmp_path.iterdir())


def test_values_come_back_from_the_command_line_with_all_their_digits() -> None:
    rate = 0.1 + 0.2
    assert compose("train", as_overrides({"optimizer.lr": rate, "model": "unetpp"}))["optimizer"]["lr"] == rate
    assert lies_in({"a": 0.3}, [Dimension("a", (), 0.1, 0.5)])
    assert not lies_in({"a": 0.6}, [Dimension("a", (), 0.1, 0.5)])
    assert not lies_in({"a": "1", "b": "2"}, [Dimension("a", ("1",))])


def test_the_best_as_a_recipe_is_its_job_and_says_nothing_of_where_that_lay(tmp_path: Path) -> None:
    fixed = [
        "experiment=quickstart",
        "loss=tversky",
        f"output={tmp_path / 'elsewhere'}",
        "~callbacks.early_stopping",
        "+data.relabel.normal=benign",
    ]
    plan = replace(_plan(tmp_path / "s", RATES, SEEDS), fixed=tuple(fixed))
    ledger = Ledger(plan, "one")
    claim = _claim(ledger)
    ledger.settle(claim, _done(val__dice=0.7), 1.0, "")
    command = write_best_config(plan, ledger.jobs()[0])
    assert str(tmp_path / "elsewhere") not in (plan.folder / "conf" / "experiment" / "s.yaml").read_text()
    ready = compose("train", command.split()[2:])
    job = compose("train", [word for word in (*fixed, *claim.overrides) if not word.startswith("output=")])
    assert ready.pop("name") == "s"
    assert job.pop("name") == "quickstart"
    assert ready == job


def test_the_pictures_say_what_their_colours_mean(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "s", RATES, SEEDS)
    known = [
        Job(n, grid_point(plan.dimensions, n), state, 1, values, {"val/dice": 0.5}, tmp_path, "", 1.0, "", "")
        for n, (state, values) in enumerate([("pruned", None), ("done", (0.6,)), ("done", (0.7,))])
    ]
    judged = charts.slices(plan, known)
    assert [text.get_text() for text in judged.legends[0].get_texts()] == ["pruned: its best validation", "finished", "best"]
    assert [line.get_color() for line in judged.axes[0].get_lines()] == [charts._PRUNED, charts._DONE, charts._BEST]
    lines = charts.parallel(plan, known)
    assert [text.get_text() for text in lines.legends[0].get_texts()] == ["finished", "pruned"]
    assert not charts.slices(plan, []).legends
    two = replace(plan, objectives={"val/dice": "maximize", "latency_ms": "minimize"})
    both = [replace(job, values=(0.5 + 0.1 * place, 3.0 + place % 2)) for place, job in enumerate(known)]
    legend = charts.front(two, [replace(job, state="done") for job in both]).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["finished", "beaten by none"]


def test_of_several_objectives_those_that_none_beats_come_first(tmp_path: Path) -> None:
    plan = replace(_plan(tmp_path / "s", SEEDS), objectives={"val/dice": "maximize", "latency_ms": "minimize"})
    ledger = Ledger(plan, "one")
    for dice, latency in ((0.7, 9.0), (0.6, 10.0), (0.65, 5.0)):
        _finish(ledger, val__dice=dice, latency_ms=latency)
    assert [job.number for job in ranked(plan, ledger.jobs())] == [0, 2, 1]


def test_of_two_jobs_that_differ_by_chance_neither_wins_always(tmp_path: Path) -> None:
    ledger = Ledger(_plan(tmp_path / "s", RATES, SEEDS), "one")
    rng = np.random.default_rng(0)
    for number in range(6):
        claim = _claim(ledger)
        claim.folder.mkdir()
        cases = fake_cases(n_groups=40)
        lesion = cases["dice"].notna()
        cases.loc[lesion, "dice"] = rng.uniform(0.5, 0.9, int(lesion.sum()))
        cases.to_csv(claim.folder / files.VALIDATION, index=False)
        ledger.settle(claim, _done(val__dice=float(cases["dice"].mean())), 1.0, str(number))
    found = ranking_uncertainty(ledger.jobs(), "val/dice")
    assert found is not None
    assert sum(found.wins.values()) == pytest.approx(1)
    assert max(found.wins.values()) < 0.95
    assert found.optimism > 0.005  # all six are draws from one distribution: the winner's lead is chance
    best = max(found.values, key=lambda number: found.values[number])
    low, high = found.intervals[best]  # type: ignore[misc]
    assert low < found.values[best] < high


# Networks that train for seconds.
_TINY = (
    "data.source.n_images=40",
    "model.encoder=resnet10t",
    "model.decoder_channels=[16,16,8,8,8]",
    "preprocess.size=32",
    "logger=csv",
)


def _train(folder: Path, *words: str) -> str:
    """Run scripts/train.py to its end, and return what it said."""
    script = str(CONF.parent / "scripts" / "train.py")
    done = subprocess.run([sys.executable, script, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_real_jobs_are_pruned_from_inside_and_the_best_is_tested(tmp_path: Path) -> None:
    words = ["-m", *_TINY, "optimizer.lr=1e-2,1e-3,1e-7,1e-8", "trainer.max_epochs=6", "sweep.name=p", "sweep.pruner=asha"]
    words += ["sweep.least_validations=1", "sweep.test=best", "sweep.objective=val/loss"]
    _train(tmp_path, *words)
    folder = tmp_path / "outputs" / "sweeps" / "p"
    jobs = Ledger(read_plan(folder), "look").jobs()
    pruned = [job for job in jobs if job.state == "pruned"]
    assert pruned
    for job in pruned:
        assert len(pd.read_csv(job.folder / "history.csv")) < 6
        assert not (job.folder / files.METRICS).exists()
    best = ranked(read_plan(folder), jobs)[0]
    assert (best.folder / files.REPORT).is_file()
    tested = [job.number for job in jobs if (job.folder / files.METRICS).is_file()]
    assert tested == [best.number]
    assert best.figures["val/dice"] == files.read_json(best.folder / files.TRAINING)["best_value"]


@pytest.mark.slow
def test_a_real_job_that_is_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    words = [
        sys.executable,
        str(CONF.parent / "scripts" / "train.py"),
        "-m",
        *_TINY,
        "optimizer.lr=1e-3,3e-3",
        "trainer.max_epochs=5",
    ]
    folder = tmp_path / "outputs" / "sweeps"
    process = subprocess.Popen([*words, "sweep.name=cut"], cwd=tmp_path, start_new_session=True)
    while not (folder / "cut" / "trial_0000" / "history.csv").is_file() and process.poll() is None:
        time.sleep(0.05)
    for pid in (process.pid, *_children(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    for name in ("cut", "whole"):
        subprocess.run([*words, f"sweep.name={name}"], cwd=tmp_path, check=True)
    cut, whole = (Ledger(read_plan(folder / name), "look").jobs() for name in ("cut", "whole"))
    assert [job.figures["val/dice"] for job in cut] == [job.figures["val/dice"] for job in whole]
    assert [job.attempts for job in cut] == [2, 1]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["slurm", "ray"])
def test_the_same_sweep_runs_under_every_launcher(tmp_path: Path, launcher: str) -> None:
    more = {"slurm": ["launcher.cluster=local", "launcher.workers=2"], "ray": []}[launcher]
    pytest.importorskip({"slurm": "submitit", "ray": "ray"}[launcher])
    words = ["-m", *_TINY, "optimizer.lr=1e-3,3e-3,1e-2", "trainer.max_epochs=1", "sweep.name=l", f"launcher={launcher}", *more]
    _train(tmp_path, *words)
    jobs = Ledger(read_plan(tmp_path / "outputs" / "sweeps" / "l"), "look").jobs()
    assert [(job.state, job.attempts) for job in jobs] == [("done", 1)] * 3


@pytest.mark.slow
def test_two_objectives_dice_against_latency(tmp_path: Path) -> None:
    words = ["-m", *_TINY, "model.encoder=resnet10t,resnet18", "trainer.max_epochs=1", "sweep.sampler=nsga2", "sweep.n_trials=3"]
    words += ["sweep.objective=[val/dice,latency_ms]", "sweep.name=two", "sweep.startup=2"]
    _train(tmp_path, *words)
    folder = tmp_path / "outputs" / "sweeps" / "two"
    jobs = Ledger(read_plan(folder), "look").jobs()
    assert len({job.number for job in jobs}) == 3
    assert all(job.values is not None and job.values[1] > 0 for job in jobs)
    assert (folder / "front.png").is_file()
    assert any(job.same_as for job in jobs)  # three draws of two encoders: one has the figures of another


@pytest.mark.slow
def test_what_a_sweep_would_cost_is_measured_and_nothing_is_begun(tmp_path: Path) -> None:
    words = ["-m", *_TINY, "optimizer.lr=1e-3,1e-2", "sweep.dry_run=true", "sweep.name=dry"]
    said = _train(tmp_path, *words)
    assert "sweep.dry_run: 2 jobs, about" in said
    assert re.search(r"On top, \d+ s a job to start", said)
    assert not (tmp_path / "outputs" / "sweeps").exists()


class FixedProbe:
    """A training image takes 40 ms at full size, 10 ms at 48 px; a validation image 20 ms."""

    def pace(self, config: object, batch_size: int, side: int | None = None) -> Pace:
        return Pace({None: 0.04, 48: 0.01}[side], 0.02)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        # 100 images are 12 full batches of 8: 96 images an epoch, and 20 validation images.
        ([], 10 * (96 * 0.04 + 20 * 0.02)),
        (["callbacks=[default,progressive_size]", "callbacks.progressive_size.size=48", "callbacks.progressive_size.until=0.4"],
         10 * (96 * (0.4 * 0.01 + 0.6 * 0.04) + 20 * 0.02)),
        (["callbacks=[default,progressive_size]", "callbacks.progressive_size.size=200"], 10 * (96 * 0.04 + 20 * 0.02)),
        (["trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=6"], 10 * (96 * 0.04 + 2 * 20 * 0.02)),
        (["trainer.check_val_every_n_epoch=5"], 10 * 96 * 0.04 + 2 * 20 * 0.02),
        (["trainer.max_steps=24"], 2 * (96 * 0.04 + 20 * 0.02)),
        (["trainer.max_steps=12", "trainer.accumulate_grad_batches=2"], 2 * (96 * 0.04 + 20 * 0.02)),
        (["trainer.limit_train_batches=3", "trainer.limit_val_batches=0"], 10 * 3 * 8 * 0.04),
        (["trainer=ddp", "trainer.devices=2"], 10 * (96 * 0.04 + 20 * 0.02) / 2),
    ],
)  # fmt: skip
def test_what_a_training_takes_is_its_steps_at_their_sizes_and_its_validations(words: list[str], seconds: float) -> None:
    config = compose("train", ["batch_size=8", *words, "trainer.max_epochs=10"])
    assert training_seconds(config, FixedProbe(), images=100, valid=20) == pytest.approx(seconds)  # type: ignore[arg-type]


def test_the_estimate_tells_training_and_starting_apart(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "s", RATES, SEEDS)  # six jobs
    told = in_words(plan, 2, [Cost(("seed=0",), 1200.0, False, 2.0), Cost(("seed=1",), 2400.0, True, 4.0)], importing=9.0)
    assert "6 jobs, about 3.00 hours of training by one worker, 1.50 by 2" in told
    assert "seed=1: 40.0 min (its limit)" in told
    assert "On top, 12 s a job to start, 0.02 hours by one worker" in told
    assert "Early stopping may shorten it" in told


def test_a_report_is_asked_for_by_the_sweeps_folder_though_sweep_is_a_group_elsewhere(tmp_path: Path) -> None:
    assert compose("sweep_report", [f"sweep={tmp_path}"])["sweep_folder"] == str(tmp_path)


def test_testing_a_job_keeps_the_validation_scores_that_rank_it(tmp_path: Path) -> None:
    (tmp_path / files.VALIDATION).write_text("case_id,dice\na,0.5\n")
    (tmp_path / files.DETECTIONS).write_text("left by an evaluation of another kind")
    _write_tables(tmp_path, Tables(pd.DataFrame({"case_id": ["b"]}), None, None))
    assert (tmp_path / files.VALIDATION).read_text() == "case_id,dice\na,0.5\n"
    assert not (tmp_path / files.DETECTIONS).exists()
    assert (tmp_path / files.CASES).read_text() == "case_id\nb\n"


def test_the_bench_of_sweeps_composes() -> None:
    assert list(compose("train", list(_FIXED))["callbacks"]) == ["checkpoint"]


def test_what_mattered_counts_pruned_jobs_by_what_all_had_at_the_same_validation(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    plan = _plan(folder, RATES, Dimension("loss", ("dice", "bce")), sampler="random", n_trials=24, objective="val/dice")
    ledger = Ledger(plan, "one")
    for number in range(24):
        claim = _claim(ledger)
        early = 0.3 if claim.trial.params["loss"] == "dice" else 0.1  # after two validations the loss decides, and nothing else
        is_pruned = number >= 2
        course = [0.9, early] if is_pruned else [0.9, early, 0.8 + 0.01 * number]  # the first and the last say another thing
        for step, value in enumerate(course, start=1):
            claim.trial.report(value, step)
        if is_pruned:
            ledger.settle(claim, {"state": "pruned", "figures": {"val/dice": early}}, 1.0, "")
        else:
            ledger.settle(claim, _done(val__dice=course[-1]), 1.0, "")
        claim.lock.release()
    found = importance(ledger.study)
    assert (found.n_jobs, found.validations) == (24, 2)
    assert found.shares["loss"] > 0.95
    assert "24 jobs' objective after 2 validations" in found.in_words()
    report(plan, ledger.study, ledger.jobs())
    assert files.read_json(folder / "summary.json")["importance_after_validations"] == 2
    assert found.in_words().replace("'", "&#39;") in (folder / "report.html").read_text()


def test_what_mattered_is_not_told_of_three_jobs_nor_of_equal_figures(tmp_path: Path) -> None:
    for name, count, step in (("few", 3, 0.1), ("equal", 8, 0.0)):
        plan = _plan(tmp_path / name, RATES, sampler="random", n_trials=count, objective="val/dice")
        ledger = Ledger(plan, "one")
        for number in range(count):
            _finish(ledger, val__dice=0.5 + step * number)
        assert importance(ledger.study).shares == {}


def test_a_request_to_stop_while_a_config_is_composed_waits_until_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def composed(*arguments: object, **settings: object) -> dict[str, object]:
        try:
            signal.raise_signal(signal.SIGTERM)
        except RunStopped as stop:
            raise ValueError from stop  # as OmegaConf does, in the clearing up of what was cut off
        return compose(*arguments, **settings)  # type: ignore[arg-type]

    folder = tmp_path / "s"
    plan = _plan(folder, Dimension("seed", ("0", "1")))
    monkeypatch.chdir(tmp_path)  # the worker changes it
    monkeypatch.setattr(worker, "compose", composed)
    with pytest.raises(RunStopped):
        work(folder, "one")
    jobs = Ledger(plan, "look").jobs()
    assert [(job.state, job.reason) for job in jobs] == [("stopped", "stopped by SIGTERM")]
    assert (jobs[0].folder / files.CONFIG).is_file()

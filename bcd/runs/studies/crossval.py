"""Cross-validation: train and test every fold, then one result over all cases, each predicted by a model that had not seen it."""

import logging
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bcd.config import CONF
from bcd.config.build import build
from bcd.launchers.command import Command, Launcher
from bcd.launchers.local import LocalLauncher
from bcd.runs import folder as files
from bcd.runs.folder import RunError
from bcd.runs.signals import RunStopped, StopSignals

log = logging.getLogger(__name__)

Changes = Callable[[int], Mapping[str, Mapping[str, Any]]]

KEYS = ("folds", "seeds", "jobs", "launcher")
# What a training that is started elsewhere prints.
_LOG = "process.log"
# Of SLURM, for what it writes itself.
_LOGS = "slurm"
# Of a folder that was begun before there was a choice.
_LOCAL = {"_target_": "bcd.launchers.local.LocalLauncher", "workers": 1}


@dataclass(frozen=True)
class Member:
    """One training of a cross-validation."""

    seed: int
    fold: int
    folder: Path


def crossval(config: Mapping[str, Any], folder: Path, changes: Changes | None = None) -> dict[str, Any]:
    """Train and test every fold and every seed, or continue a stopped cross-validation; return the content of metrics.json.

    Every training is a run in `fold_<k>/`, or `seed_<s>/fold_<k>/` where there are several seeds. The folder, or each seed's, then
    holds the out-of-fold results: tables, masks, probability maps, report. A launcher that only shows what it would start, or does
    not wait, ends the program.

    Args:
        config: resolved, plain, as `conf/crossval.yaml` composes it. With `resume`, a folder, all else is taken from there.
        folder: the cross-validation's own.
        changes: fold -> entries, nested, that replace those of the config in the fold's own training; None for no difference.

    Raises:
        ValueError: for anything in the config or the data that cannot work, before the first training.
        RunError: when a training that was started elsewhere failed; finished ones are kept.
        KeyboardInterrupt: after Ctrl-C; what is finished is kept.
    """
    trusted = list(config.get("trusted", ()))
    resumed = config.get("resume") is not None
    folder = Path(config["resume"]) if resumed else folder
    if resumed:
        files.read_config(folder)
    else:
        check_folds_and_seeds(config)
        if (launcher := _launcher(config, trusted)).dry_run:
            commands = _commands(_members(config, folder), trusted)
            sys.stdout.write(launcher.describe(commands, folder.absolute() / _LOGS) + "\n")
            raise SystemExit(0)
    with files.claimed(folder), StopSignals():
        try:
            if resumed:
                config = files.go_on(folder, trusted, "crossval")
            else:
                config = files.begin(folder, {**config, "group": group_of(config, folder)})
            members, launcher = _members(config, folder), _launcher(config, trusted)
            for member in members:
                _begin(member, config, folder, changes(member.fold) if changes is not None else {})
            if launcher.workers == 1 and isinstance(launcher, LocalLauncher):
                _one_by_one(members, trusted)
            else:
                _elsewhere(members, trusted, launcher, folder)
            return _joined(config, members, folder)
        except (RunStopped, KeyboardInterrupt, SystemExit) as stop:
            leave(stop, f"Finished folds are kept; go on with: python scripts/crossval.py resume={folder}")


def cross_validated(config: Mapping[str, Any], folder: Path, changes: Changes | None = None) -> dict[str, Any]:
    """Cross-validate, or resume; return the content of metrics.json."""
    if (folder / files.REPORT).is_file():
        return files.read_metrics(folder)
    if (folder / files.CONFIG).is_file():
        return crossval({"resume": str(folder), "trusted": config["trusted"]}, folder, changes)
    folder.mkdir(parents=True, exist_ok=True)
    return crossval(dict(config), folder, changes)


def group_of(config: Mapping[str, Any], folder: Path) -> str:
    """Return what trackers group the trainings of a cross-validation by: what the config says, or else where its folder is."""
    if config.get("group") is not None:
        return str(config["group"])
    home = Path(config["output"]).expanduser().absolute()
    place = folder.absolute()
    known = place.relative_to(home).parts if place.is_relative_to(home) else (place.name,)
    return "/".join(known[1:] if known[0] == "crossval" and len(known) > 1 else known) or place.name


def evaluate_folds(
    folder: Path, output: Path, overrides: Mapping[str, Mapping[str, Any]], trusted: Collection[str] = ()
) -> dict[str, Any]:
    """Repeat the test of every fold of a finished cross-validation, and the result over all; return the content of metrics.json.

    Args:
        folder: of the cross-validation, of one seed.
        output: where the results go; the folder itself repeats them there.
        overrides: as for a run's own test.
        trusted: constructors of the user's own that the config may name.

    Raises:
        RunError: for a folder with several seeds, or one that is not finished.
    """
    from bcd.runs.testing.run import evaluate

    runs = files.folds_of(folder)
    for run in runs:
        if not (run / files.TRAINING).is_file():
            raise RunError(f"{run} is not trained to its end; go on with: python scripts/crossval.py resume={folder}")
    if overrides.get("guide") and output.absolute() == folder.absolute():
        raise RunError("Another guide is another experiment: give output=<folder>, so that the results are kept.")
    for run in runs:
        evaluate(run, output / run.name, overrides, trusted)
    from bcd.runs.studies.out_of_fold import join

    # The split that was used, and the folder of the data where another is given.
    data, root = files.with_own_split(files.read_config(folder), folder)["data"], overrides.get("data", {}).get("root")
    if root is not None:
        data = {**data, "root": root, "source": {**data["source"], "root": root}}
    config = {**files.go_on(folder, list(trusted), "crossval"), "data": data}
    return join([output / run.name for run in runs], output, config)


def leave(stop: BaseException, message: str) -> NoReturn:
    """End with the signal's status, and log how to resume."""
    if isinstance(stop, SystemExit) or (isinstance(stop, RunStopped) and stop.signum == signal.SIGTERM):
        sys.stderr.write(f"{message}\n")
        raise SystemExit(stop.code if isinstance(stop, SystemExit) else 128 + signal.SIGTERM) from None
    raise KeyboardInterrupt(message) from None


def check_folds_and_seeds(config: Mapping[str, Any]) -> None:
    """Refuse what cannot be cross-validated.

    Raises:
        ValueError: saying what, and what to write instead.
    """
    if config["fold"] is not None:
        raise ValueError(f"fold={config['fold']}: a cross-validation tests every fold in turn; folds=[{config['fold']}] limits it.")
    if config["plan"] is not None:
        raise ValueError("experiment=auto plans one run: plan with scripts/train.py, then give its experiment.yaml to crossval.py.")
    if config["refit"]:
        raise ValueError("refit=true tests nothing, and a cross-validation tests every fold; train with scripts/train.py.")
    for name in ("folds", "seeds"):
        values = config[name]
        if values is not None and (not values or len(set(values)) < len(values)):
            raise ValueError(f"{name}={values}: give a list of different whole numbers, such as {name}=[1,2].")


def _members(config: Mapping[str, Any], folder: Path) -> list[Member]:
    """Return the trainings, fold by fold; a fold that the split does not have is refused."""
    from bcd.runs.assemble import prepare_data  # late: the config is written before torch is imported

    there = sorted(int(fold) for fold in prepare_data(config).split["fold"].unique())
    wanted = config["folds"] if config["folds"] is not None else there
    absent = [fold for fold in wanted if fold not in there]
    if absent:
        raise ValueError(f"folds={wanted}: the split has folds {there[0]} to {there[-1]}.")
    seeds = config["seeds"] if config["seeds"] is not None else [config["seed"]]
    return [
        Member(seed, fold, (folder / f"seed_{seed}" if len(seeds) > 1 else folder) / f"fold_{fold}")
        for fold in wanted
        for seed in seeds
    ]


def _begin(member: Member, config: Mapping[str, Any], folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the config of a training, so that it can be started by `resume=` like any that was stopped."""
    if (member.folder / files.CONFIG).is_file():
        return
    own = {key: value for key, value in config.items() if key not in KEYS}
    own = files.moved(own, str(folder.absolute()), str(member.folder.absolute()))
    own |= {key: {**own[key], **entries} for key, entries in changes.items()}
    own |= {"name": f"{config['name']}-fold{member.fold}", "fold": member.fold, "seed": member.seed}
    member.folder.mkdir(parents=True, exist_ok=True)
    files.begin(member.folder, own)


def _one_by_one(members: Sequence[Member], trusted: list[str]) -> None:
    from bcd.runs.training.train import train

    for number, member in enumerate(members, start=1):
        if files.is_finished(member.folder):
            continue
        log.info("Training %d of %d: fold %d, seed %d.", number, len(members), member.fold, member.seed)
        train({"resume": str(member.folder), "trusted": trusted}, member.folder)


def _launcher(config: Mapping[str, Any], trusted: Collection[str]) -> Launcher:
    """Return what starts the trainings; `jobs` are the workers of this machine.

    Raises:
        ValueError: for `jobs` beside another launcher, or beside another number of its workers.
    """
    launcher: Launcher = build(config.get("launcher", _LOCAL), trusted=trusted)
    if config["jobs"] > 1:
        if launcher.workers > 1 or not isinstance(launcher, LocalLauncher):
            raise ValueError("jobs= is short for launcher=local launcher.workers=; leave one of the two out.")
        launcher.workers = config["jobs"]
    return launcher


def _elsewhere(members: Sequence[Member], trusted: list[str], launcher: Launcher, folder: Path) -> None:
    """Train what is not finished in processes of their own: here, several of which share cores and GPUs out, or in a cluster.

    Raises:
        RunError: when any failed, after the others have ended; its log says why.
        SystemExit: when they were left to a queue.
    """
    waiting = [member for member in members if not files.is_finished(member.folder)]
    if not waiting:
        return
    log.info("%d trainings, %d at a time; each writes %s in its folder.", len(waiting), launcher.workers, _LOG)
    statuses = launcher.run(_commands(waiting, trusted), folder.absolute() / _LOGS)
    if statuses is None:
        raise SystemExit(0)
    failed = [member.folder for member, status in zip(waiting, statuses, strict=True) if status != 0]
    if failed:
        logs = ", ".join(str(folder / _LOG) for folder in failed)
        raise RunError(f"{len(failed)} of {len(members)} trainings failed; see {logs}. What is finished is kept.")


def _commands(members: Sequence[Member], trusted: list[str]) -> list[Command]:
    words = (sys.executable, str(CONF.parent / "scripts" / "train.py"), f"trusted=[{','.join(trusted)}]")
    return [Command((*words, f"resume={one.folder.absolute()}"), log=one.folder.absolute() / _LOG) for one in members]


def _joined(config: Mapping[str, Any], members: Sequence[Member], folder: Path) -> dict[str, Any]:
    """Write the out-of-fold results of each seed, and over several seeds their spread."""
    from bcd.runs.studies.out_of_fold import join, spread_over_seeds
    from bcd.runs.table import print_results

    seeds = sorted({member.seed for member in members})
    of_seed = {seed: [member.folder for member in members if member.seed == seed] for seed in seeds}
    if len(seeds) == 1:
        metrics = join(of_seed[seeds[0]], folder, config)
        print_results(metrics, folder)
        return metrics
    results = {seed: join(folders, folder / f"seed_{seed}", config) for seed, folders in of_seed.items()}
    return spread_over_seeds(results, folder, config)

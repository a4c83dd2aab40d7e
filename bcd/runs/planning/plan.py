"""The plan of `experiment=auto`: image size, network, batch and epochs from the data, the memory and the measured speed.

What holds `auto` in the config is chosen; the user's values stay. The rules, in this order:

1. The input is as large as it takes for the 5th percentile of the training lesions to be `plan.lesion_px` across, and no larger
   than the images are.
2. The epochs are enough when the network has seen enough images, so that fewer images get more epochs.
3. The largest such size is taken that leaves time for enough epochs with the cheapest network; then the strongest network that
   still does; with the strongest of all, larger sizes.
4. The epochs are what the time then holds, up to a multiple of enough.

The test part is not used. The choices are written down as an experiment that repeats the run, with the reason for each.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from bcd.config.options import program
from bcd.config.processes import is_follower
from bcd.data.prepare import Prepared
from bcd.files import write_text
from bcd.runs import folder as files
from bcd.runs.assemble import build_datamodule
from bcd.runs.hardware import Hardware
from bcd.runs.planning import rules
from bcd.runs.planning.probe import Probe, StepProbe
from bcd.runs.planning.recipe import AUTO, Recipe
from bcd.runs.planning.rules import AUGMENTATION, BATCH, EPOCHS, SAMPLING, SIZE, Wishes
from bcd.runs.planning.search import Candidate, Goal, Search, Space, Trial
from bcd.runs.planning.statistics import DataStatistics, statistics

log = logging.getLogger(__name__)

PLAN = "plan.json"
EXPERIMENT = "experiment.yaml"

NETWORK = ("model.encoder", "model.backbone", "model.decoder_channels", "model.network.encoder", "model.network.decoder_channels")
OPEN = (SIZE, *NETWORK, BATCH, SAMPLING, EPOCHS)

# Lesions are measured in masks of this size in pixels, for any input size.
_MEASURED_AT = 512
# How long a further process of a distributed training waits for the plan of the one that leads, beyond the time for measuring.
_PATIENCE_S = 900


def planned(
    config: Mapping[str, Any], prepared: Prepared, hardware: Hardware, folder: Path, probe: Probe | None = None
) -> dict[str, Any]:
    """Return the config with a value wherever it holds `auto`; write plan.json and experiment.yaml into the run's folder.

    A folder that holds a plan keeps it: a resumed run, and the further processes of a distributed one, follow it.

    Args:
        config: plain, resolved, paths absolute; `plan` says what to plan for.
        prepared: the data set.
        hardware: what the run computes with.
        folder: the run's.
        probe: measures settings; None takes real training steps.

    Raises:
        ValueError: when the time is too short for an epoch, or the memory for a batch of two; says how much would do.
    """
    if all(_get(config, key) != AUTO for key in OPEN) and not _augmentation_is_open(config):
        return dict(config)
    recipe = Recipe(config, OPEN)
    record = files.read_json(folder / PLAN)
    if not record and is_follower(config["trainer"]):
        record = _plan_of_the_leader(folder, 60 * config["plan"]["probe_minutes"] + _PATIENCE_S)
    is_new = not record
    record = record or make_plan(config, recipe, prepared, hardware, probe)
    recipe.choose(record["choices"])
    if is_new:
        write_text(folder / EXPERIMENT, _experiment(config, recipe, hardware, record))
        files.write_json(folder / PLAN, record)
        for key, value in {**record["values"], **record["choices"]}.items():
            log.info("Plan: %s=%s: %s.", key, value, record["reasons"][key])
        for warning in record["warnings"]:
            log.warning("Plan: %s.", warning)
        seconds = record["planning_seconds"]
        log.info("Plan: written to %s, to read, edit and repeat; it took %.0f s.", folder / EXPERIMENT, seconds)
    return {**recipe.with_values(record["values"]), "plan": {**config["plan"], "choices": recipe.choices}}


def make_plan(
    config: Mapping[str, Any], recipe: Recipe, prepared: Prepared, hardware: Hardware, probe: Probe | None = None
) -> dict[str, Any]:
    """Return the plan as plain values: what is chosen and why, what was seen in the data, and what was measured.

    Raises:
        ValueError: when the time is too short for an epoch, or the memory for a batch of two; says how much would do.
    """
    started = time.perf_counter()
    wishes = Wishes.of(config["plan"])
    datamodule = build_datamodule(recipe.with_values({}), prepared, hardware)
    datamodule.select_cases()
    masks_like = replace(datamodule.preprocess, size=_MEASURED_AT)
    data = statistics(datamodule.cases["train"], datamodule.cases["valid"], prepared, masks_like)
    probe = StepProbe(datamodule, hardware) if probe is None else probe
    networks = _networks(config, wishes, recipe)
    given = _get(config, SIZE)
    sizes, enough = rules.sizes_for(wishes, data) if given == AUTO else ([given], given)
    space, goal = Space(sizes, enough, list(networks)), _goal(config, wishes, data, probe.free_memory())
    log.info("Plan: %s.", rules.space_in_words(space, wishes, data))

    def configure(candidate: Candidate) -> dict[str, Any]:
        return recipe.with_values({SIZE: candidate.size, **networks[candidate.network]})

    search = Search(space, goal, probe, configure, 60 * wishes.probe_minutes)
    best = search.run()
    rules.refuse_the_impossible(goal, best, wishes, epochs_are_open=_get(config, EPOCHS) == AUTO)
    return {
        **_choice(config, wishes, data, search, best, networks[best.candidate.network]),
        "warnings": rules.warnings_of(search, goal, best, wishes),
        "data": data.summary(),
        "hardware": {**asdict(hardware), "threads": torch.get_num_threads(), "free_memory_gb": round(goal.memory / 2**30, 2)},
        "measured": [trial.summary() for trial in search.trials],
        "planning_seconds": round(time.perf_counter() - started, 1),
    }


def _choice(
    config: Mapping[str, Any], wishes: Wishes, data: DataStatistics, search: Search, best: Trial, network: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values of the open keys, the options of the open groups, and the reasons for both."""
    epochs, epochs_reason = rules.epochs_and_reason(search.goal, best, wishes)
    chosen: dict[str, tuple[Any, str]] = {SIZE: (best.candidate.size, rules.size_reason(search, best, wishes, data))}
    for number, (key, value) in enumerate(network.items()):
        chosen[key] = value, "goes with it in plan.networks" if number else rules.network_reason(search, best)
    chosen |= {
        BATCH: (best.batch_size, rules.batch_reason(search.goal, best)),
        SAMPLING: rules.sampling_and_reason(config, data),
        EPOCHS: (epochs, epochs_reason),
    }
    chosen = {key: value for key, value in chosen.items() if _get(config, key) == AUTO}
    options = {}
    if _augmentation_is_open(config):
        given = _get(config, EPOCHS)  # auto, or without an end: what the time holds
        passes = given if isinstance(given, int) and given > 0 else epochs
        options[AUGMENTATION] = rules.augmentation_and_reason(passes)
    return {
        "values": {key: value for key, (value, _) in chosen.items()},
        "choices": {group: option for group, (option, _) in options.items()},
        "reasons": {key: reason for key, (_, reason) in (chosen | options).items()},
    }


def _goal(config: Mapping[str, Any], wishes: Wishes, data: DataStatistics, memory: float) -> Goal:
    processes = rules.processes_of(config["trainer"])
    epochs, batch_size = _get(config, EPOCHS), _get(config, BATCH)
    wanted = rules.wanted_batch(data.n_train, processes) if batch_size == AUTO else batch_size
    validations = rules.validations_per_epoch(config["trainer"], max(data.n_train // wanted, 1))
    return Goal(
        seconds=60 * wishes.minutes,
        memory=memory,
        epochs=rules.enough_epochs(data.n_train, config["pretrained"] is not False) if epochs == AUTO else max(epochs or 1, 1),
        batch_size=wanted,
        batch_is_given=batch_size != AUTO,
        n_train=data.n_train,
        n_valid=data.n_valid * validations,
        processes=processes,
    )


def _networks(config: Mapping[str, Any], wishes: Wishes, recipe: Recipe) -> dict[str | None, dict[str, Any]]:
    """Return the networks to choose among, name -> values by dotted key; a single one without a name where none is open.

    Raises:
        ValueError: when the network is open, but one network's weights are given.
    """
    own = {key: recipe.default(key) for key in NETWORK if _get(config, key) == AUTO}
    own = {key: value for key, value in own.items() if value is not None and not _is_kept(key, value, recipe, wishes)}
    networks: dict[str | None, dict[str, Any]] = {}
    for wish in wishes.networks:
        alike = {key: wish.get(key.rpartition(".")[2]) for key, value in own.items()}
        # Another network's decoder may have other stages, or none: its values cannot replace the option's own.
        values = {
            key: value
            for key, value in alike.items()
            if type(value) is type(own[key]) and (not isinstance(value, list) or len(value) == len(own[key]))
        }
        words = ["-".join(map(str, value)) if isinstance(value, list) else str(value) for value in values.values()]
        networks.setdefault(" / ".join(words) if words else None, values)
    if isinstance(config["pretrained"], str) and len(networks) > 1 and any(isinstance(value, str) for value in own.values()):
        keys = " or ".join(f"{key}=" for key, value in own.items() if isinstance(value, str))
        raise ValueError(f"pretrained={config['pretrained']} holds the weights of one network: say which by {keys}.")
    return networks


def _is_kept(key: str, value: Any, recipe: Recipe, wishes: Wishes) -> bool:
    """Return whether an option's own encoder or backbone is what makes the option: model=resnet18, or SegFormer's transformer."""
    if not isinstance(value, str):
        return False
    listed = value in [wish.get(key.rpartition(".")[2]) for wish in wishes.networks]
    return not listed or value.startswith(str(recipe.choices["model"]))


def _plan_of_the_leader(folder: Path, patience: float) -> dict[str, Any]:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        record = files.read_json(folder / PLAN)
        if record:
            return record
        time.sleep(0.5)
    raise files.RunError(
        f"{folder} still has no {PLAN}: the process that leads has not planned. Do all processes share the folder?"
    )


def _experiment(config: Mapping[str, Any], recipe: Recipe, hardware: Hardware, record: Mapping[str, Any]) -> str:
    plan = config["plan"]
    head = [
        f"{config['name']}, planned for plan.minutes={plan['minutes']:g} on {hardware.name} ({hardware.device}).",
        "Use it by a name of its own: copy it to conf/experiment/mine.yaml, and",
        f"  {program('train')} experiment=mine",
        "It needs no planning then, and repeats the run; change what you like. A comment says why the plan chose what is below it;",
        "what has none is as you gave it, or as experiment=auto has it. The measurements are in plan.json.",
        *(f"WARNING: {warning}." for warning in record["warnings"]),
    ]
    if recipe.folders:
        head.append(f"It needs {' and '.join(f'--config-dir={folder}' for folder in recipe.folders)} as well.")
    if recipe.removed:
        head.append(f"A file cannot take a key away, so add: {' '.join('~' + key for key in recipe.removed)}")
    return recipe.experiment(head, record["values"], record["reasons"])


def _augmentation_is_open(config: Mapping[str, Any]) -> bool:
    return config["plan"]["choices"].get(AUGMENTATION) == AUTO


def _get(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node

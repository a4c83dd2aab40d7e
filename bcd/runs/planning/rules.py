"""The rules of a plan: what the data require, what is chosen, and the reason for each, in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bcd.runs.assemble import task_info
from bcd.runs.planning.search import TIME_SHARE, Candidate, Goal, Search, Space, Trial
from bcd.runs.planning.statistics import DataStatistics

SIZE, BATCH, SAMPLING, EPOCHS, AUGMENTATION = "preprocess.size", "batch_size", "sampling", "trainer.max_epochs", "augmentation"

# Enough to learn from: so many images seen, and each of them so many times at least, and at most.
IMAGES_SEEN = {"random": 25_000, "pretrained": 10_000}
FEWEST_EPOCHS = {"random": 20, "pretrained": 10}
MOST_EPOCHS = 150
# Where the time holds more epochs than enough, up to so many times as many are taken.
REPEAT = 4
BATCHES = (32, 16, 8)
STEPS_PER_EPOCH = 50
LESION_PERCENTILE = 5
# What backbones are made for, where no mask says how small the lesions are.
SIZE_WITHOUT_MASKS = 224
# Larger than so many times what is enough, an image costs more than it shows.
MOST_TIMES_ENOUGH = 2
# A class is rare below this share of what it would have if all were alike.
RARE = 0.5
# A network that sees each image less often than that does not overfit.
FEW_PASSES = 20


@dataclass(frozen=True)
class Wishes:
    """What the user wants of a plan: the `plan` node of the config.

    Args:
        minutes: for training with its validation.
        probe_minutes: of measuring, after which nothing stronger is tried.
        lesion_px: diameter in pixels that the 5th percentile of the lesions should have at the network's input.
        sizes: of the input in pixels, ascending.
        networks: values of the `model` node, from cheap to strong.
    """

    minutes: float
    probe_minutes: float
    lesion_px: float
    sizes: tuple[int, ...]
    networks: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> "Wishes":
        """Return the wishes that a config states."""
        numbers = {name: node[name] for name in ("minutes", "probe_minutes", "lesion_px")}
        return cls(**numbers, sizes=tuple(sorted(set(node["sizes"]))), networks=tuple(node["networks"]))


def enough_epochs(n_train: int, pretrained: bool) -> int:
    """Return how many epochs are enough to learn from so many training images."""
    start = "pretrained" if pretrained else "random"
    return min(max(math.ceil(IMAGES_SEEN[start] / n_train), FEWEST_EPOCHS[start]), MOST_EPOCHS)


def wanted_batch(n_train: int, processes: int) -> int:
    """Return the largest batch that leaves an epoch enough steps, the smallest where none does; a multiple of the processes."""
    fitting = [size for size in BATCHES if n_train // size >= STEPS_PER_EPOCH]
    return max(fitting[0] if fitting else BATCHES[-1], processes) // processes * processes


def sizes_for(wishes: Wishes, data: DataStatistics) -> tuple[list[int], int]:
    """Return the sizes that make sense for the images, and the one that is enough for their lesions."""
    # Beyond the images' own size there is nothing more to see.
    sizes = [size for size in wishes.sizes if size <= data.native_side] or [wishes.sizes[0]]
    per_px = data.lesion_px(1, LESION_PERCENTILE)
    wanted = SIZE_WITHOUT_MASKS if per_px is None else wishes.lesion_px / max(per_px, 1e-6)
    enough = next((size for size in sizes if size >= wanted), sizes[-1])
    return [size for size in sizes if size <= max(enough, MOST_TIMES_ENOUGH * wanted)], enough


def validations_per_epoch(trainer: Mapping[str, Any], steps: int) -> float:
    """Return how often an epoch of so many steps is validated, on average."""
    every, interval = trainer["check_val_every_n_epoch"], trainer["val_check_interval"]
    if isinstance(interval, float):
        return 1 / interval / (every or 1)
    return steps / interval if every is None else steps // interval / every


def processes_of(trainer: Mapping[str, Any]) -> int:
    """Return how many processes train together."""
    devices = trainer["devices"]
    if isinstance(devices, list):
        number = len(devices)
    elif isinstance(devices, int) and devices > 0:
        number = devices
    else:  # auto, or -1
        number = torch.cuda.device_count()
    return max(number, 1) * int(trainer.get("num_nodes", 1))


def size_reason(search: Search, best: Trial, wishes: Wishes, data: DataStatistics) -> str:
    """Return why the input has its size."""
    size, enough = best.candidate.size, search.space.enough
    if not data.diameters:
        wanted = f"there is no lesion mask, so that {SIZE_WITHOUT_MASKS} px were wanted, which backbones are made for"
    else:
        here = data.lesion_px(size, LESION_PERCENTILE)
        wanted = (
            f"the {LESION_PERCENTILE}th percentile of the lesions' diameters is {here:.1f} px here, {wishes.lesion_px:g} wanted"
        )
    if size > enough:
        return f"{wanted}; {enough} px are enough, and time and memory allow more"
    if size < enough:
        there = next(trial for trial in search.trials if trial.candidate == Candidate(enough, best.candidate.network))
        return f"{wanted}; {enough} px would be better, but there {there.problem}"
    if data.diameters and (data.lesion_px(size, LESION_PERCENTILE) or 0.0) < wishes.lesion_px:
        return f"{wanted}; the largest of plan.sizes within the images' own {data.native_side} px"
    return f"{wanted}; the smallest of plan.sizes that is enough"


def network_reason(search: Search, best: Trial) -> str:
    """Return why the encoder or backbone was taken."""
    networks = list(search.space.networks)
    rest = networks[networks.index(best.candidate.network) + 1 :]
    if best.candidate.size < search.space.enough or best.problem is not None:
        return "the cheapest of plan.networks that runs, because the size of the image comes first"
    tried = {trial.candidate.network: trial.problem for trial in search.trials if trial.candidate.size == search.space.enough}
    problems = [f"{network}: {tried[network]}" for network in rest if tried.get(network) is not None]
    return "; ".join([f"the strongest of plan.networks that time and memory allow at {search.space.enough} px", *problems])


def batch_reason(goal: Goal, best: Trial) -> str:
    """Return why the batch has its size."""
    if best.batch_size < goal.batch_size:
        return f"what the memory holds ({goal.memory / 2**30:.1f} GB are free) of the {goal.batch_size} that were wanted"
    steps = goal.n_train // best.batch_size
    if steps < STEPS_PER_EPOCH:
        return f"the smallest of {_listed(sorted(BATCHES))}: {goal.n_train} training images make {steps} steps an epoch"
    return (
        f"the largest of {_listed(sorted(BATCHES))} with at least {STEPS_PER_EPOCH} steps an epoch: {goal.n_train} training images "
        f"make {steps}"
    )


def epochs_and_reason(goal: Goal, best: Trial, wishes: Wishes) -> tuple[int, str]:
    """Return how many epochs are trained, and why."""
    epochs = max(1, min(best.epochs, REPEAT * goal.epochs))
    reason = (
        f"an epoch takes {best.epoch_seconds:.3g} s here: {TIME_SHARE:.0%} of plan.minutes={wishes.minutes:g} hold {best.epochs}; "
        f"{goal.epochs} are enough, in which {goal.epochs * goal.n_train} images are seen"
    )
    return epochs, reason + (f", and more than {REPEAT} times as many are not taken" if epochs < best.epochs else "")


def sampling_and_reason(config: Mapping[str, Any], data: DataStatistics) -> tuple[str, str]:
    """Return how the training cases are drawn, and why."""
    if not task_info(config).classifies:
        return "natural", "a segmentation learns from every case alike"
    if "weights" in config["loss"]:
        return "natural", "the loss weighs the classes already"
    rarest = min(data.classes, key=lambda label: data.classes[label])
    share, equal = data.classes[rarest] / data.n_train, 1 / len(data.classes)
    reason = f"the rarest class, {rarest}, has {share:.0%} of the training cases"
    if share < RARE * equal:
        return "balanced", f"{reason}, less than half of the {equal:.0%} of an equal share"
    return "natural", f"{reason}, at least half of the {equal:.0%} of an equal share"


def augmentation_and_reason(epochs: int) -> tuple[str, str]:
    """Return which augmentation is taken, and why."""
    if epochs < FEW_PASSES:
        return (
            "standard",
            f"each image comes up only {'once' if epochs == 1 else f'{epochs} times'}, so that overfitting is unlikely",
        )
    return "strong", f"each image comes up {epochs} times, so that overfitting must be prevented"


def warnings_of(search: Search, goal: Goal, best: Trial, wishes: Wishes) -> list[str]:
    """Return the warnings before the training."""
    if best.problem is None:
        return list(search.remarks)
    needed = math.ceil(goal.epochs * best.epoch_seconds / TIME_SHARE / 60)
    if best.epochs >= goal.epochs:
        return [*search.remarks, f"the memory is short: with {best.candidate}, the cheapest that was open, {best.problem}"]
    return [
        *search.remarks,
        f"plan.minutes={wishes.minutes:g} is short: even with {best.candidate}, the cheapest that was open, {best.problem}; "
        f"plan.minutes={needed} would hold them",
    ]


def refuse_the_impossible(goal: Goal, best: Trial, wishes: Wishes, epochs_are_open: bool) -> None:
    """Stop where no training is possible.

    Raises:
        ValueError: saying what is short, and how much would do.
    """
    if best.pace is None:
        raise ValueError(
            f"The memory is too small to train: with {best.candidate}, the cheapest that was open, {best.problem}. Free some, "
            "set a smaller batch_size=, or list smaller plan.sizes=."
        )
    if best.epochs < 1 and epochs_are_open:
        needed = math.ceil(goal.epochs * best.epoch_seconds / TIME_SHARE / 60)
        raise ValueError(
            f"plan.minutes={wishes.minutes:g} is too short for a single epoch: even with {best.candidate}, the cheapest that was "
            f"open, one takes {best.epoch_seconds:.3g} s here. plan.minutes={needed} would hold the {goal.epochs} that are enough; "
            "trainer.max_epochs= sets the number yourself."
        )


def space_in_words(space: Space, wishes: Wishes, data: DataStatistics) -> str:
    """Return what the data require, for the log."""
    px = data.lesion_px(space.enough, LESION_PERCENTILE)
    lesions = "no lesion mask" if px is None else f"5th percentile of the lesions {px:.1f} px at {space.enough} px"
    return f"{data.n_train} training images, {lesions} ({wishes.lesion_px:g} px wanted); now measuring what fits the time"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))

"""The rank of this process in a distributed training, as set by its launcher: Lightning, torchrun, or SLURM's srun.

Read from the environment alone, before anything heavy is imported.
"""

import os
from collections.abc import Mapping
from typing import Any

# Of torchrun and of Lightning's own launcher; NODE_RANK also where a process is started by hand on each node.
_RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK")
# Keys of a trainer's config that say how many processes train; a run may go on with others than it was begun with.
OF_PROCESSES = ("devices", "num_nodes")
_OF_TORCHRUN = "TORCHELASTIC_RUN_ID"
# srun sets these for each task; what is left of SLURM's tells of the job, and does no harm.
_OF_SRUN = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES")
_MEETING = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def trains_alone(trainer: Mapping[str, Any]) -> bool:
    """Return whether a trainer's config asks for a single process, for any environment."""
    return str(trainer.get("devices", 1)) == "1" and str(trainer.get("num_nodes", 1)) == "1"


def is_follower(trainer: Mapping[str, Any]) -> bool:
    """Return whether this is a further process of a training that another one leads.

    A training by a single process has none, even where a scheduler has numbered this one, as it does a sweep's workers.
    """
    if trains_alone(trainer):
        return False
    ranks = [os.environ.get(name, "0") for name in _RANKS]
    if _under_srun():
        ranks.append(os.environ.get("SLURM_PROCID", "0"))
    return any(rank != "0" for rank in ranks)


def started_together() -> int:
    """Return how many processes torchrun or srun has started for one training; 1 where Lightning starts the others, if any."""
    if _OF_TORCHRUN in os.environ:
        return int(os.environ.get("WORLD_SIZE", "1"))
    return int(os.environ["SLURM_NTASKS"]) if _under_srun() else 1


def meets_others() -> bool:
    """Return whether this process was started beside others of the same training, so that none of them can tell them its folder."""
    # Lightning's own launcher sets NODE_RANK too, but for processes that it gives a folder.
    return started_together() > 1 or ("NODE_RANK" in os.environ and os.environ.get("LOCAL_RANK", "0") == "0")


def starter() -> str:
    """Return the name of what has started several processes."""
    return "torchrun" if _OF_TORCHRUN in os.environ else "srun" if _under_srun() else "NODE_RANK="


def check_number(wanted: int) -> None:
    """Refuse a training of another number of processes than have been started.

    Args:
        wanted: what the trainer's config asks for.

    Raises:
        ValueError: with the keys to set.
    """
    started = started_together()
    if started not in (1, wanted):
        raise ValueError(
            f"{starter()} started {started} processes, and the trainer's config asks for {wanted}: trainer=ddp, trainer.devices= "
            f"the processes of each node, trainer.num_nodes= the nodes. Or start the command once, without {starter()}."
        )


def own_environment() -> dict[str, str]:
    """Return the environment for a training that this process has no part in: without its rank and its meeting point."""
    foreign = {*_RANKS, *_OF_SRUN, *_MEETING}
    return {
        name: value for name, value in os.environ.items() if name not in foreign and not name.startswith(("TORCHELASTIC_", "PL_"))
    }


def _under_srun() -> bool:
    """Return whether SLURM counts the processes; in an interactive shell, as Lightning has it, the user does."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")

"""What is wrong with a command line or a config."""

from collections.abc import Sequence


class ConfigError(ValueError):
    """The command line or a config does not say what it must."""


def refuse(problems: Sequence[str]) -> None:
    """Raise one error for all problems.

    Raises:
        ConfigError: if there is any.
    """
    different = list(dict.fromkeys(problems))
    if different:
        listed = "".join(f"\n  - {problem}" for problem in different)
        raise ConfigError(different[0] if len(different) == 1 else f"{len(different)} things cannot be so:{listed}")

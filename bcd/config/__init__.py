"""The command line: Hydra's groups and overrides in, a plain and checked dict out; nothing heavy is imported."""

from bcd.config.commands import command
from bcd.config.composing import compose, resolved
from bcd.config.errors import ConfigError
from bcd.config.options import CONF, groups, help_text, options_text

__all__ = ["CONF", "ConfigError", "command", "compose", "groups", "help_text", "options_text", "resolved"]

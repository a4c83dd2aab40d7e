"""`bcd train ...`, or `python -m bcd train ...`: the commands of scripts/, from a checkout or from an installed package."""

import ast
import runpy
import sys

from bcd.config import CONF
from bcd.config.errors import nearest

# In an installed package the commands lie beside the configs, as they do in a checkout.
SCRIPTS = CONF.parent / "scripts"


def main() -> None:
    """Run the command that is named first, with the arguments behind it."""
    commands = sorted(path.stem for path in SCRIPTS.glob("*.py"))
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        lines = [f"  {command:<20}{_explained(command)}" for command in commands]
        sys.stdout.write(
            "\n".join(["bcd COMMAND [group=option] [key=value] ...", "", *lines, "", "bcd COMMAND --help says more.", ""])
        )
        return
    if name not in commands:
        sys.stderr.write(f"error: there is no command {name!r}. {nearest(name, commands)}\n")
        raise SystemExit(2)
    path = str(SCRIPTS / f"{name}.py")
    sys.argv = [path, *sys.argv[2:]]
    runpy.run_path(path, run_name="__main__")


def _explained(command: str) -> str:
    text = (SCRIPTS / f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition(": python")[0]


if __name__ == "__main__":
    main()

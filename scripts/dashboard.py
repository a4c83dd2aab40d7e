"""Show all runs below a folder in the browser: python scripts/dashboard.py output=outputs port=8502."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("dashboard")
def main(config: dict[str, Any], folder: Path) -> None:
    """Open a page that shows all runs below output=, with TensorBoard beside it; no account, no network."""
    from bcd.app.dashboard import dashboard  # keeps --help fast

    dashboard(config)


if __name__ == "__main__":
    main()

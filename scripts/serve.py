"""Serve the page: python scripts/serve.py bundle=bundles/busbra port=8501."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("serve")
def main(config: dict[str, Any], folder: Path) -> None:
    """Open a page in the browser that reads images with a bundle, and shows the runs below outputs/.

    Without bundle= it takes the bundle that comes with the project, or else makes one of simulated images in about a minute.
    """
    from bcd.app.serving import serve  # keeps --help fast

    serve(config)


if __name__ == "__main__":
    main()

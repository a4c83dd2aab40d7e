"""Serve the web page: python scripts/serve.py bundle=bundles/busbra port=8501."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("serve")
def main(config: dict[str, Any], folder: Path) -> None:
    """Open a page in the browser that predicts images with a bundle, and shows the runs below outputs/.

    Without bundle= it uses the project's bundle, or else trains one on simulated images in about a minute.
    """
    from bcd.app.serving import serve  # keeps --help fast

    serve(config)


if __name__ == "__main__":
    main()

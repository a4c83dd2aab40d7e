"""Serve a bundle to programs over HTTP: python scripts/serve_api.py bundle=bundles/..."""

import logging
import os
from pathlib import Path
from typing import Any

from bcd.config import command

log = logging.getLogger(__name__)


@command("serve_api")
def main(config: dict[str, Any], folder: Path) -> None:
    """Answer POST /predict with a bundle's predictions for the images in it; /docs describes the requests."""
    from bcd.api.middleware import read_token  # keeps --help fast

    token = read_token(os.environ, Path(config["token_file"]) if config["token_file"] is not None else None)
    log.info("Loading; the first time takes some seconds.")
    from bcd.api.server import start

    start(config, token)


if __name__ == "__main__":
    main()

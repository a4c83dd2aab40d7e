"""Servers that tests start."""

import subprocess
import time
import urllib.request


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until a server answers.

    Raises:
        AssertionError: when its process has ended.
    """
    while True:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            assert server.poll() is None, "The command ended."
            time.sleep(0.5)

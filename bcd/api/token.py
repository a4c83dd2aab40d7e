"""The token that clients must show, if the service asks for one."""

import hmac
from collections.abc import Mapping
from pathlib import Path

from bcd.api.problems import ProblemError

VARIABLE = "BCD_TOKEN"
_SHORTEST = 16
_MAKE = 'python -c "import secrets; print(secrets.token_urlsafe())"'


def read_token(environment: Mapping[str, str], file: Path | None) -> str | None:
    """Return the token from the environment variable BCD_TOKEN or from a file; None where neither is given.

    Never from the command line, where every user of the machine could read it.

    Raises:
        ValueError: for both, or one that is too short or not plain.
    """
    if file is not None and VARIABLE in environment:
        raise ValueError(f"There is a token in {VARIABLE} and one in token_file={file}; give one of them.")
    if file is None and VARIABLE not in environment:
        return None
    where = VARIABLE if file is None else f"token_file={file}"
    token = environment[VARIABLE] if file is None else file.read_text(encoding="utf-8", errors="replace").strip()
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{where}: a token has {_SHORTEST} or more plain characters. Make one: {_MAKE}")
    return token


def check_token(header: str | None, token: str | None) -> None:
    """Let a request pass, or not.

    Args:
        header: its Authorization, or None.
        token: what it must show; None where nothing is asked for.

    Raises:
        ProblemError: 401.
    """
    if token is None:
        return
    scheme, _, shown = (header or "").partition(" ")
    # Bytes, because compare_digest refuses text that is not ASCII; and in constant time.
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode("utf-8"), token.encode("ascii")):
        error = "The token is wrong." if header else "This service asks for a token."
        remedy = "Send the header Authorization: Bearer <token>; who runs the service knows it."
        raise ProblemError(401, "token", error, remedy, {"WWW-Authenticate": "Bearer"})

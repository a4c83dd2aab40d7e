"""What the page was started with: handed from the command to Streamlit's process by the environment."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

VARIABLE = "BCD_PAGE"


class Settings(BaseModel):
    """What the page was started with.

    Attributes:
        bundle: the bundle's folder.
        bundles: folders in which further bundles lie.
        outputs: folder below which runs lie.
        note: a sentence on where the bundle comes from; empty for one that the user named.
        max_pixels: an image of more is refused before it is decoded.
        max_upload_mb: of one file.
        trusted: constructors of the user's own that a bundle may name.
        local: the page is served to this machine only, so its users may name folders of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path
    bundles: tuple[Path, ...]
    outputs: Path
    note: str
    max_pixels: int
    max_upload_mb: int
    trusted: tuple[str, ...] = ()
    local: bool = True

    def to_environment(self) -> dict[str, str]:
        """Return the settings as a variable of the environment."""
        return {VARIABLE: self.model_dump_json()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Return the settings that the command handed over.

        Raises:
            ValueError: when there are none.
        """
        if VARIABLE not in environment:
            raise ValueError("The page was not started by its command; run: python scripts/serve.py, or make app.")
        return cls.model_validate_json(environment[VARIABLE])

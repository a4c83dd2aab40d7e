"""What is decided on validation alone: operating points, the temperature, and the size of conformal sets.

Nothing is chosen on test data (a threshold chosen on the test would bias the result). One model has one `Decisions`; where several
folds are pooled, each row goes by the model of its fold. `bcd.evaluation.validation` chooses them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bcd.config.errors import sentence

RAW: Literal["raw"] = "raw"
CALIBRATED: Literal["calibrated"] = "calibrated"
SENSITIVITIES = (0.90, 0.95)
BESIDE = {"positive", "temperature", "conformal"}
"""What bundle.yaml has beside its decisions, not in them: temperatures are each network's."""
POINTS = ("0.5", "youden", *(f"sensitivity>={value:.2f}" for value in SENSITIVITIES))

Probability = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]


class Decisions(BaseModel):
    """What was chosen on the validation cases of one model, as metrics.json and bundle.yaml hold it.

    Args:
        positive: class that the thresholds are for; empty where nothing is classified.
        thresholds: operating point -> probability of `positive` from which on a case is called positive; None where validation does
            not determine one.
        temperature: of `bcd.metrics.calibration.scale`; 1 changes nothing.
        conformal: highest score that a class in the set may have, see `bcd.evaluation.conformal`; None: every class is in it.
        on: which probabilities the thresholds are for: as the model gives them, or calibrated.
        default_point: the operating point that is used unless another is asked for; None where there is none.
        source: what it was chosen on, in words.
        notes: what could not be chosen, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    positive: str = ""
    thresholds: dict[str, Probability | None] = Field(max_length=100)
    temperature: Temperature = 1.0
    conformal: Probability | None = None
    on: Literal["raw", "calibrated"] = "raw"
    default_point: str | None = None
    source: str = ""
    notes: tuple[str, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _default_has_a_threshold(self) -> "Decisions":
        if self.default_point is not None and self.default_point not in self.usable:
            raise ValueError(f"default_point is {self.default_point!a}, which has no threshold")
        return self

    @property
    def usable(self) -> dict[str, float]:
        """Return the operating points that have a threshold."""
        return {point: value for point, value in self.thresholds.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, as metrics.json has them: its thresholds are for raw probabilities, and it has no default."""
        return self.model_dump(mode="json", exclude={"on", "default_point"})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Decisions":
        """Return the decisions that `to_dict` wrote.

        Raises:
            ValueError: for other keys, or values that cannot be.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ValueError(f"These are no decisions: {sentence(error)}") from error

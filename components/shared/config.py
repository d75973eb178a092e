"""The base of every room's settings: frozen, typed, unknown keys refused with the known ones listed."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from components.shared.errors import InputError


class StepConfig(BaseModel):
    """Settings of one step. Fields carry a one-sentence description with unit; a recipe section has the same names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, section: str) -> Self:
        """Validate a recipe section.

        Whole floats become integers, because kfp's local runner turns every integer of a dict parameter into a float.

        Raises:
            InputError: naming section, key, value and what is allowed.
        """
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            raise InputError("; ".join(_explain(cls, section, one) for one in error.errors())) from None


def _explain(config: type[StepConfig], section: str, error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(section)"
    if error["type"] == "extra_forbidden":
        return f"recipe section '{section}': unknown key '{key}'; known keys: {', '.join(sorted(config.model_fields))}"
    return f"recipe section '{section}': key '{key}' = {error['input']!r}: {error['msg']}"

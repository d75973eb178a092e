"""The base of every room's settings: frozen, typed, unknown keys refused with the known ones listed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from components.shared.errors import InputError

NOT_SHAPING: dict[str, Any] = {"shapes_output": False}


class StepConfig(BaseModel):
    """Settings of one step. Fields carry a one-sentence description with unit; a recipe section has the same names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    where: ClassVar[str] = "recipe section"

    def shaping(self) -> dict[str, Any]:
        """The settings that decide what is written, as JSON values; without those that only decide how fast or at what price.

        A field is of the second kind when it says `json_schema_extra=NOT_SHAPING`: with another value, begun work goes on.
        """
        fields = type(self).model_fields
        return {name: value for name, value in self.model_dump(mode="json").items() if fields[name].json_schema_extra != NOT_SHAPING}

    def references(self) -> dict[str, str]:
        """Digests of what settings only name (a folder, a secret): when that changes, the step has to run again."""
        return {}

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
        known = _fields_at(config, error["loc"][:-1])
        return f"{config.where} '{section}': unknown key '{key}'; known keys: {', '.join(sorted(known))}"
    return f"{config.where} '{section}': key '{key}' = {error['input']!r}: {error['msg']}"


def _fields_at(config: type[BaseModel], place: Sequence[str | int]) -> Iterable[str]:
    """Names of the fields of the model that lies at `place` within `config`; those of `config` where no model lies there."""
    found = config
    for part in place:
        inner = found.model_fields.get(str(part))
        kinds = [inner.annotation, *get_args(inner.annotation)] if inner else []
        found = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), found)
    return found.model_fields

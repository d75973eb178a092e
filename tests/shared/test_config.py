"""Settings: unknown keys are listed, kfp's floats become integers, nothing changes afterwards."""

from typing import ClassVar

import pytest
from pydantic import Field, ValidationError, model_validator

from components.shared.config import StepConfig
from components.shared.errors import InputError


class Example(StepConfig):
    epochs: int = Field(1, ge=1, description="Passes.")
    rate: float = Field(0.1, description="Step size.")
    names: list[int] = Field([1], description="Numbers.")


def test_kfp_floats_become_integers():
    config = Example.from_mapping({"epochs": 3.0, "rate": 2, "names": [2.0, 5.0]}, section="x")
    assert (config.epochs, config.rate, config.names) == (3, 2.0, [2, 5])
    assert isinstance(config.epochs, int)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"epoch": 3}, "recipe section 'x': unknown key 'epoch'; known keys: epochs, names, rate"),
        ({"epochs": 0}, "recipe section 'x': key 'epochs' = 0: .*greater than or equal to 1"),
        ({"epochs": 2.5}, "key 'epochs' = 2.5"),
        ({"names": [1, "b"]}, r"key 'names.1' = 'b'"),
        ({"epoch": 3, "rate": "fast"}, "unknown key 'epoch'.*; .*key 'rate' = 'fast'|key 'rate' = 'fast'.*; .*unknown key 'epoch'"),
    ],
)
def test_mistakes_are_named_in_one_line(mapping, message):
    with pytest.raises(InputError, match=message) as caught:
        Example.from_mapping(mapping, section="x")
    assert "\n" not in str(caught.value)


def test_an_unknown_key_of_an_inner_part_lists_that_parts_keys():
    class Inner(StepConfig):
        file: str = Field("", description="Path.")

    class Outer(StepConfig):
        where: ClassVar[str] = "card"
        items: Inner = Field(Inner(), description="One.")
        others: dict[str, Inner] = Field({}, description="Several.")

    with pytest.raises(InputError, match=r"^card 'c': unknown key 'items.fil'; known keys: file$"):
        Outer.from_mapping({"items": {"fil": "a"}}, section="c")
    with pytest.raises(InputError, match=r"^card 'c': unknown key 'others.x.fil'; known keys: file$"):
        Outer.from_mapping({"others": {"x": {"fil": "a"}}}, section="c")


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Example().epochs = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_a_rule_over_several_keys_names_the_section():
    class Pair(StepConfig):
        low: int = Field(0, description="From.")
        high: int = Field(9, description="To.")

        @model_validator(mode="after")
        def _ordered(self):
            if self.low > self.high:
                raise ValueError("low is above high; swap them")
            return self

    with pytest.raises(InputError, match=r"^recipe section 'x': key '\(section\)' = .*: Value error, low is above high; swap them$"):
        Pair.from_mapping({"low": 10}, section="x")


def test_defaults_are_checked_too():
    class Wrong(StepConfig):
        epochs: int = Field(0, ge=1, description="Passes.")

    with pytest.raises(InputError, match="key 'epochs' = 0"):
        Wrong.from_mapping({}, section="x")

"""Common base of the configuration's tables."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo
from pydantic_core import PydanticCustomError

from proxy.config.references import LoadContext


class Table(BaseModel):
    """Immutable; unknown keys are faults.

    A rule about several keys of a table is a validator of the last of them. It sees the valid keys above it
    (`info.data`) and passes where one that it needs is missing there: so one fault hides no other, and none
    is reported twice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class MissingKey(ValueError):
    """A rule requires a key that is not given. The fault is shown at the table, not at a value."""


def _not_from_file(value: object, info: ValidationInfo) -> object:
    if isinstance(info.context, LoadContext):
        raise PydanticCustomError("extra_forbidden", "a key that only load.py sets")
    return value


Computed = BeforeValidator(_not_from_file)
NameOfTable = Annotated[str, Computed]

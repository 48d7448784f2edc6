"""What the tables of the configuration have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo
from pydantic_core import PydanticCustomError

from proxy.config.references import LoadContext


class Table(BaseModel):
    """Unknown keys are faults, and nothing is changed after loading.

    What keys of one table must agree on is a validator of the key that complains. It sees the keys above it
    that are right in themselves (`info.data`), and keeps silent where one that it needs is missing there: so
    one fault hides no other, and none is told twice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class MissingKey(ValueError):
    """A rule wants a key that is not there. The fault is the table's, not that of a value in it."""


def _not_from_file(value: object, info: ValidationInfo) -> object:
    if isinstance(info.context, LoadContext):
        raise PydanticCustomError("extra_forbidden", "a key that only load.py sets")
    return value


Computed = BeforeValidator(_not_from_file)
NameOfTable = Annotated[str, Computed]

"""[notify]: where to report that an account needs a person, and that it works again."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema, field_validator

from proxy.config.base import MissingKey, Table
from proxy.config.lookups import Command, command_of
from proxy.config.references import SecretUrl, load_context
from proxy.secret import Secret

_ARGUMENTS: Final = {"type": "array", "items": {"type": "string"}, "minItems": 1}


def _command(value: object, info: ValidationInfo) -> Command:
    if isinstance(value, Command):
        return value
    try:
        return command_of(value, load_context(info).folder)
    except ValueError:
        raise ValueError(
            'expected a program and its arguments, as there is no shell: ["/usr/local/bin/page"]'
        ) from None


Program = Annotated[Command, PlainValidator(_command), WithJsonSchema(_ARGUMENTS)]


class Notify(Table):
    """One of the two."""

    command: Program | None = Field(
        None,
        description="A program and its arguments, run without a shell: it gets the notification as JSON on "
        "stdin, and has 10 s.",
    )
    url: SecretUrl | None = Field(
        None,
        description="Where to POST the notification as JSON, like a webhook of Slack: https, or http on "
        "loopback. Often a secret: expected as a reference.",
        validate_default=True,
    )

    @field_validator("url")
    @classmethod
    def _one_of_two(cls, url: Secret | None, info: ValidationInfo) -> Secret | None:
        if "command" not in info.data:
            return url  # it has a fault of its own
        has_command = info.data["command"] is not None
        if has_command and url is not None:
            raise ValueError("command is given too: expected one of command and url")
        if not has_command and url is None:
            raise MissingKey("command or url is missing - this table requires one of them")
        return url

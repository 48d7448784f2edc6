"""Events of the log: a name, a level, a sentence, and fields for machines.

    event(_log, WARNING, "refresh_failed", "refresh of %s failed", key, **key._asdict(), error="timeout")

The log of a server writes the fields after the sentence (observe/logs.py). Without a name, a line is a
"notice": never for anything that a person or a rule may wait for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from logging import CRITICAL, DEBUG, ERROR, INFO, WARNING

Field = str | int | float | bool | None


def event(
    log: logging.Logger,
    level: int,
    name: str,
    sentence: str,
    /,
    *values: object,
    failure: BaseException | None = None,
    **fields: Field,
) -> None:
    """Log an event. `values` are for `sentence`, as in logging; `failure` is logged with its traceback.

    `fields` that are None or "" are left out: names from the configuration, codes from fixed lists, numbers.
    """
    if log.isEnabledFor(level):
        extra = {
            "event": name,
            "fields": {key: each for key, each in fields.items() if each not in (None, "")},
        }
        log.log(level, sentence, *values, extra=extra, exc_info=failure)


def fields_of(record: logging.LogRecord) -> Mapping[str, Field]:
    """The fields of a record that `event` made; none of others."""
    fields: Mapping[str, Field] = getattr(record, "fields", {})
    return fields


__all__ = ["CRITICAL", "DEBUG", "ERROR", "INFO", "WARNING", "Field", "event", "fields_of"]

"""Events of the log: a name, a level, a sentence for people, and fields for machines.

    event(_log, WARNING, "refresh_failed", f"refresh of {key} failed", **key._asdict(), error="timeout")

The log of a server writes the fields after the sentence (observe/logs.py). Without a name, a line is a
"notice": never for anything that a person or a rule may wait for. Sentences and fields hold names from the
configuration, codes from fixed lists, numbers and our own words; never a token, nor what a peer sent.
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
    **fields: Field,
) -> None:
    """Log an event. `values` are for `sentence`, as in logging. Fields that are None or "" are left out."""
    if log.isEnabledFor(level):
        shown = {key: each for key, each in fields.items() if each not in (None, "")}
        log.log(level, sentence, *values, extra={"event": name, "fields": shown})


def unexpected(
    log: logging.Logger, name: str, sentence: str, error: BaseException, /, **fields: Field
) -> None:
    """Log an event of level error with the traceback of `error`."""
    log.error(sentence, extra={"event": name, "fields": fields}, exc_info=error)


def decision(log: logging.Logger, sentence: str, /, *values: object, **fields: Field) -> None:
    """Log, at level debug, what was decided and why. `values` are for `sentence`, as in logging: they are
    formatted only where they are written.
    """
    if log.isEnabledFor(DEBUG):
        log.debug(sentence, *values, extra={"event": "decision", "fields": fields})


def fields_of(record: logging.LogRecord) -> Mapping[str, Field]:
    """The fields of a record that `event` made; none of others."""
    fields: Mapping[str, Field] = getattr(record, "fields", {})
    return fields


__all__ = [
    "CRITICAL",
    "DEBUG",
    "ERROR",
    "INFO",
    "WARNING",
    "Field",
    "decision",
    "event",
    "fields_of",
    "unexpected",
]

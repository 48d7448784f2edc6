"""Logs each deviation of an authorization server's responses once: by code, never with its text."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from proxy.observe.events import WARNING, event

_log = logging.getLogger("proxy.oauth")


class Oddities:
    """The deviations logged by this process; few, as there are few credentials and codes."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str, str]] = set()

    def log(self, credential: str, subject: str, codes: Iterable[str], words: Mapping[str, str]) -> None:
        """`subject`: what deviates, such as "token response"; `words`: a sentence for each code."""
        new = [code for code in codes if (credential, subject, code) not in self._logged]
        self._logged.update((credential, subject, code) for code in new)
        if new:
            what = "; ".join(f"{words[code]} ({code})" for code in new)
            sentence = f"{credential}: unusual {subject} from the authorization server: {what}"
            event(_log, WARNING, "odd_response", sentence, credential=credential, error=",".join(new))

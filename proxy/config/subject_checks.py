"""Rules about callers' own tokens, exchanged for others. Pure: parsed TOML in, complaints out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from proxy.config.fault_messages import Complaint
from proxy.config.tables import Tables, route_list, table

AUTHORIZATION: Final = "authorization"
_NOT_SUBJECTS: Final = frozenset(  # what this proxy acts on, or replaces, itself
    {
        *("token-proxy-key", "host", "connection", "content-length", "transfer-encoding"),
        *("cookie", "via", "upgrade"),
    }
)


def check_subjects(data: Tables) -> Iterator[Complaint]:
    credentials = table(data, "credentials")
    fields = {name: _field(each) for name, each in credentials.items() if isinstance(each, dict)}
    for name, field in fields.items():
        if field in _NOT_SUBJECTS:
            yield Complaint(
                ("credentials", name, "subject_token", "header"),
                "this field is not the caller's to choose: expected another one, such as Authorization",
            )
    anyone = "anyone" in table(data, "server")
    for index, route in enumerate(route_list(data)):
        if not isinstance(route, dict) or not (field := fields.get(str(route.get("credential")), "")):
            continue
        if field == AUTHORIZATION and route.get("caller_authorization") == "pass":
            yield Complaint(
                ("routes", index, "caller_authorization"),
                "the caller's Authorization is the subject_token of the credential, and is not passed on - "
                "leave it out, or take the subject from another field",
            )
        if anyone:
            yield Complaint(
                ("routes", index, "credential"),
                "beyond this machine tokens are exchanged only for callers: expected [callers.NAME] in place "
                "of server.anyone",
            )


def _field(credential: dict[str, Any]) -> str:
    subject = credential.get("subject_token")
    header = subject.get("header") if isinstance(subject, dict) else None
    return header.lower() if isinstance(header, str) else ""

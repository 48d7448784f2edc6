"""Every event of the log: its levels, its fields and its meaning, for the documentation. Pure.

An event with several levels has one of them, as its meaning says. A field without a value is left out of a
line. In meanings, `...` marks a command, a key or a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Event:
    """`fields`: besides ts, level, event and message, which each line has."""

    name: str
    levels: tuple[str, ...]
    fields: tuple[str, ...]
    meaning: str


def _event(name: str, levels: str, fields: str, meaning: str) -> Event:
    return Event(name, tuple(levels.split()), tuple(fields.split()), meaning)


_KEY: Final = "credential account"

GROUPS: Final[Mapping[str, tuple[Event, ...]]] = {
    "Tokens": (
        _event(
            "login_required",
            "error",
            "credential account login_url reason error",
            "a person must act; once for each occasion",
        ),
        _event(
            "refresh",
            "info",
            "credential account outcome why duration_ms generation next_refresh_s",
            "a new token was obtained and saved",
        ),
        _event(
            "refresh_failed",
            "warning error",
            "credential account outcome why duration_ms error cause failures next_try_s",
            "a refresh failed (error: at our own store); `cause` where the connection or TLS did",
        ),
        _event(
            "refresh_retry",
            "info",
            "credential account error attempt",
            "a request for a token failed and is repeated at once",
        ),
        _event(
            "login",
            "info",
            "credential account outcome",
            "a login ended: success, or cancelled by the person",
        ),
        _event(
            "login_failed",
            "warning error",
            "credential account login_url error cause",
            "a login failed; error: its tokens could not be saved; `cause` where a connection or TLS failed",
        ),
        _event(
            "login_undecided",
            "warning",
            _KEY,
            "the account has another person's tokens: the browser is asked",
        ),
        _event("logout", "info", _KEY, "tokens were revoked and forgotten"),
        _event(
            "token_handed_out",
            "info",
            "credential account caller",
            "a caller has fetched a token itself, or the command `token` has printed one",
        ),
        _event(
            "revocation_failed",
            "warning",
            "credential account error cause token",
            "at a logout, the server did not revoke a token",
        ),
        _event(
            "client_registered",
            "info",
            "credential ends_at",
            "a client was registered at the authorization server (RFC 7591), for a credential with `mcp`",
        ),
        _event(
            "client_forgotten",
            "warning",
            "credential",
            "the server does not know the registered client any more: the next login or token request "
            "registers another",
        ),
        _event(
            "no_refresh_token",
            "warning",
            "credential account login_url ends_at",
            "a login gave no refresh token, and so ends with its access token; `message` says which "
            "settings bring one",
        ),
        _event(
            "refresh_token_ends",
            "warning",
            "credential account login_url ends_at",
            "a refresh token expires soon, or has expired",
        ),
        _event("scopes_not_granted", "warning", _KEY, "the server granted fewer scopes than configured"),
        _event("seed_adopted", "info", _KEY, "a refresh token of the configuration was taken up"),
        _event(
            "access_token_refused",
            "warning",
            "credential account error",
            "a response's access token can't be used; its refresh token is kept",
        ),
        _event("introspection_failed", "info", _KEY, "the lifetime of a token is unknown"),
        _event(
            "other_person", "error", _KEY, "a refresh returned another person's tokens, which are not used"
        ),
        _event(
            "odd_response",
            "warning",
            "credential error",
            "a token response deviates from the standard in ways that are tolerated; once for each",
        ),
        _event(
            "odd_issuer",
            "warning",
            "credential",
            "a redirect names an issuer unlike the configured endpoints",
        ),
        _event(
            "clock_skew",
            "warning info",
            "credential skew_s",
            "the server's clock and ours differ by much; info: they agree again",
        ),
        _event(
            "lease_lost", "warning", _KEY, "the process was suspended during a refresh, which is repeated"
        ),
        _event(
            "lease_not_released", "warning", "", "the store failed after a refresh; the lease ends by itself"
        ),
    ),
    "Notifications": (
        _event(
            "notified",
            "info",
            "credential account state more",
            "a notification was delivered: the account needs a person, or works again; `more`: further "
            "accounts",
        ),
        _event(
            "notify_failed",
            "warning",
            "error status failures waiting next_try_s",
            "a notification was not delivered, and is tried again; `waiting`: accounts with one to come",
        ),
        _event(
            "notification_not_noted",
            "warning",
            _KEY,
            "the store failed after a delivery: another process, or the next start, may repeat it",
        ),
    ),
    "Store": (
        _event(
            "store_not_writable",
            "warning error",
            "",
            "tokens, or the outcome of a login (error), can't be written",
        ),
        _event("store_writable", "info", "", "tokens can be written to the store again"),
        _event("store_unreadable", "error", "", "the store can't be read; once until it can be again"),
        _event("store_readable", "info", "", "the store can be read again"),
        _event(
            "token_unsaved",
            "error",
            _KEY,
            "a new token can't be saved: it is kept in memory, not used yet, and saved as soon as possible",
        ),
        _event(
            "token_saved", "info", "credential account tries", "a token of event `token_unsaved` is saved now"
        ),
        _event(
            "token_lost",
            "critical error",
            _KEY,
            "the process ends with an unsaved token; error: a refused login's token can't be kept",
        ),
        _event(
            "tokens_restored",
            "error",
            _KEY,
            "the store had lost the latest tokens; they are written again from memory",
        ),
        _event(
            "tokens_set_aside", "warning", _KEY, "a logout of an unreadable record: it is kept in quarantine"
        ),
        _event("record_unreadable", "error", _KEY, "the key does not open a record, or it is damaged"),
        _event("store_replaced", "critical", "", "the file of the store was replaced while in use"),
        _event(
            "store_upgrading", "warning", "", "the schema of the store is being upgraded: it may take a while"
        ),
        _event(
            "store_upgraded",
            "warning",
            "",
            "the schema of the store was upgraded; `message` says how to go back",
        ),
        _event("store_not_durable", "warning", "", "the database may lose what it has confirmed"),
        _event(
            "store_not_lasting",
            "warning",
            "",
            "the file of the store is on a tmpfs, or in a container without a volume: logins will be lost",
        ),
        _event("store_not_local", "warning", "", "the file of the store may be on a network file system"),
    ),
    "Requests and connections": (
        _event(
            "request",
            "info",
            "route credential account caller method status duration_ms upstream_ms bytes_in bytes_out "
            "replayed error request_id",
            "each request that matched a route",
        ),
        _event(
            "refused", "warning", "reason count", "requests without a route were refused, counted by ending"
        ),
        _event(
            "upstream_failed",
            "warning",
            "route credential error cause peer suppressed",
            "an upstream failed; once a minute for each route and cause",
        ),
        _event(
            "upstream_unauthorized",
            "warning",
            "route credential token_age",
            "an upstream refuses a new token; once an hour for each route",
        ),
        _event(
            "upstream_not_allowed",
            "warning",
            "route credential account",
            "a token response names an upstream that is not in `upstream_hosts`; once for each account and "
            "value",
        ),
        _event(
            "link_dropped",
            "warning",
            "route",
            "a response's link led to a listener of this proxy, or had no valid host",
        ),
        _event(
            "connections_full",
            "warning",
            "listener connections",
            "the admin or health listener is at its limit; once a minute",
        ),
        _event("connections_refused", "error", "limit", "no open files are left for callers; once a minute"),
        _event(
            "open_files_few",
            "warning",
            "needed limit",
            "`limits.connections` may need more open files than permitted",
        ),
    ),
    "The process": (
        _event(
            "start",
            "info",
            "version compiled config store public_url routes routes_left_out",
            "the server is ready",
        ),
        _event("listen", "info", "listen", "a listener is open"),
        _event(
            "reload",
            "info warning error debug",
            "credential faults files routes_added routes_removed routes_changed credentials_added "
            "credentials_removed credentials_changed callers_added callers_removed callers_changed "
            "tables_changed",
            "info: reloaded, or changed files were taken up; warning: changed files, or secrets that are "
            "looked up again, can't be used; error: a fault of the new configuration, a line each; debug: "
            "the folder of the file can't be watched",
        ),
        _event(
            "config_warning",
            "warning",
            "",
            "a warning about the configuration, a line each: at the start and after a reload",
        ),
        _event("stop", "info", "signal", "the server begins to stop; a second line: it has stopped"),
        _event("audit_failed", "error", "cause file", "the audit log can't be written; once a minute"),
        _event("audit_recovered", "info", "", "the audit log can be written again"),
        _event(
            "audit_unusable", "warning", "file", "the audit log can't be opened, at the start or at a reload"
        ),
        _event(
            "log_lines_dropped", "warning", "count", "stderr did not accept that many log lines (`count`)"
        ),
        _event("internal_error", "error", "task error", "an unexpected exception: please report it"),
        _event(
            "decision",
            "debug",
            "credential account number step",
            "what was decided and why; lines of one request have one `number`",
        ),
        _event("notice", "debug info warning error", "", "anything else: for people, not for rules"),
    ),
}
EVENTS: Final[Mapping[str, Event]] = {event.name: event for group in GROUPS.values() for event in group}

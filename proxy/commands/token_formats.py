"""How `token --format` prints a token: for scripts, curl, shells, git and kubectl. Pure.

curl -H "$(token-proxy token crm --format header)" …          env $(token-proxy token crm --format env) CMD
git config credential.https://git.example.helper '!token-proxy token crm --format git'
kubectl: users[].user.exec = {command: token-proxy, args: [token, k8s, --format, exec-credential]}
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from proxy.config.attach import Attach, AttachBasic
from proxy.config.model import Credential
from proxy.errors import ProxyError
from proxy.hosts import is_localhost, read_ip
from proxy.tokens.attachment import Attachment
from proxy.tokens.handed_out import TokenDocument

EXEC_INFO: Final = "KUBERNETES_EXEC_INFO"  # the variable in which kubectl says what it expects
_EXEC_GROUP: Final = "client.authentication.k8s.io"
_EXEC_VERSIONS: Final = ("v1", "v1beta1")
_GIT_USER: Final = "x-access-token"  # GitHub's; most servers look at the password alone


class CannotPrint(ProxyError):
    """The format does not suit the credential, or what the asking program says."""


@dataclass(frozen=True, slots=True)
class Printed:
    """All that a format may use. `git`: what git says on stdin. `environ`: of this process."""

    credential: Credential
    attachment: Attachment
    token: TokenDocument
    git: Mapping[str, str]
    environ: Mapping[str, str]


def _plain(printed: Printed) -> str:
    return printed.token["access_token"]


def _json(printed: Printed) -> str:
    return json.dumps(printed.token)


def _header(printed: Printed) -> str:
    """The fields as they are attached, a line each."""
    lines = printed.attachment.fields.decode("ascii").split("\r\n")[1:]
    if not lines:
        name = printed.credential.name
        raise CannotPrint(f"credentials.{name}.attach puts the token in no header field: use another format")
    return "\n".join(lines)


def variable_of(credential: str) -> str:
    """As `exec` names the variables of routes."""
    name = f"{credential.upper().replace('-', '_')}_ACCESS_TOKEN"
    return f"_{name}" if name[0].isdigit() else name


def _env(printed: Printed) -> str:
    """For env(1), env files and `eval`."""
    return f"{variable_of(printed.credential.name)}={shlex.quote(printed.token['access_token'])}"


def _git(printed: Printed) -> str:
    """gitcredentials(7). The user is git's own, else that of `attach`, else GitHub's."""
    protocol = printed.git.get("protocol", "https")
    host = urlsplit(f"//{printed.git.get('host', '')}").hostname or ""
    if protocol != "https" and not _is_here(host):
        raise CannotPrint("git asks for a password to send without TLS: expected https")
    by_attach = (each.basic_user for each in _places(printed) if isinstance(each, AttachBasic))
    lines = [
        f"username={printed.git.get('username') or next(by_attach, _GIT_USER)}",
        f"password={printed.token['access_token']}",
    ]
    if printed.token["expires_at"] is not None:
        lines.append(f"password_expiry_utc={printed.token['expires_at']}")
    return "\n".join(lines)


def _places(printed: Printed) -> tuple[Attach, ...]:
    return printed.credential.attach


def _is_here(host: str) -> bool:
    try:
        return read_ip(host).is_loopback
    except ValueError:
        return is_localhost(host)


def _exec_credential(printed: Printed) -> str:
    """https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins"""
    status: dict[str, str] = {"token": printed.token["access_token"]}
    expires_at = printed.token["expires_at"]
    if expires_at is not None:
        status["expirationTimestamp"] = datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    version = exec_version(printed.environ.get(EXEC_INFO, ""))
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def exec_version(info: str) -> str:
    """The apiVersion that kubectl expects, which it says in EXEC_INFO. Raises CannotPrint."""
    if not info:
        return f"{_EXEC_GROUP}/{_EXEC_VERSIONS[0]}"
    try:
        version = str(json.loads(info)["apiVersion"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CannotPrint(
            f"{EXEC_INFO} is not what kubectl sets: expected a JSON object with apiVersion"
        ) from None
    group, _, name = version.partition("/")
    if group != _EXEC_GROUP or name not in _EXEC_VERSIONS:
        known = " or ".join(f"{_EXEC_GROUP}/{each}" for each in _EXEC_VERSIONS)
        raise CannotPrint(f"the apiVersion in the kubeconfig is not supported: expected {known}")
    return version


FORMATS: Final[Mapping[str, Callable[[Printed], str]]] = {
    "plain": _plain,
    "json": _json,
    "header": _header,
    "env": _env,
    "git": _git,
    "exec-credential": _exec_credential,
}


def read_git(text: str) -> dict[str, str]:
    """What git writes to a credential helper: lines of key=value, up to an empty one. Later keys win."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line:
            break
        key, separator, value = line.partition("=")
        if separator:
            found[key] = value
    return found

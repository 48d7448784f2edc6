"""The environment variables by which `exec` tells a program the base URLs of the routes. Pure.

The names that are refused are of variables that change how programs start, find each other or reach the
network: a base URL there would break every program that `exec` starts.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import PlainValidator, WithJsonSchema

from proxy.config.values import text_of

VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # POSIX: what a shell can read
OURS: Final = "TOKEN_PROXY_"
_TAKEN: Final = frozenset(
    {
        "ALL_PROXY",
        "BASHOPTS",
        "BASH_ENV",
        "BROWSER",
        "CDPATH",
        "CLASSPATH",
        "CREDENTIALS_DIRECTORY",
        "CURL_CA_BUNDLE",
        "DISPLAY",
        "EDITOR",
        "ENV",
        "FTP_PROXY",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
        "HOME",
        "HOSTALIASES",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "IFS",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "LANG",
        "LANGUAGE",
        "LOCALDOMAIN",
        "LOCPATH",
        "LOGNAME",
        "MAIL",
        "NLSPATH",
        "NODE_EXTRA_CA_CERTS",
        "NODE_OPTIONS",
        "NODE_PATH",
        "NOTIFY_SOCKET",
        "NO_PROXY",
        "OLDPWD",
        "PAGER",
        "PATH",
        "PROMPT_COMMAND",
        "PS1",
        "PS2",
        "PS3",
        "PS4",
        "PWD",
        "REQUESTS_CA_BUNDLE",
        "RES_OPTIONS",
        "RUBYLIB",
        "RUBYOPT",
        "SHELL",
        "SHELLOPTS",
        "SHLVL",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "STATE_DIRECTORY",
        "TEMP",
        "TERM",
        "TMP",
        "TMPDIR",
        "TZ",
        "USER",
        "VISUAL",
        "_JAVA_OPTIONS",
    }
)
_TAKEN_FAMILIES: Final = (
    *("BASH_FUNC_", "CORECLR_", "COR_", "DOTNET_", "DYLD_", "GIT_", "LC_", "LD_", "LISTEN_", "MALLOC_"),
    *("PERL5", "PYTHON", "SSH_", "WATCHDOG_", "XDG_"),
)


def default_variable(route: str) -> str:
    """The variable of a route that names none."""
    return route.upper().replace("-", "_") + "_BASE_URL"


def _variable(value: object) -> str:
    name = text_of(value)
    if not VARIABLE.fullmatch(name):
        raise ValueError(
            "no shell can read this name: expected letters, digits and _, like CRM_URL, and no digit first"
        )
    if name.upper().startswith(OURS):
        raise ValueError(f"token-proxy itself reads {OURS}*: expected a name like CRM_URL")
    if _changes_programs(name.upper()):
        raise ValueError("programs depend on this variable for other things: expected a name like CRM_URL")
    return name


def _changes_programs(name: str) -> bool:
    return name in _TAKEN or (name.startswith(_TAKEN_FAMILIES) and not name.endswith("_URL"))


VariableName = Annotated[str, PlainValidator(_variable), WithJsonSchema({"type": "string"})]

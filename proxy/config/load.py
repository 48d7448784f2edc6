"""Load the configuration, or report every fault in it at once, each with its line and column, or variable.

A wrong value is shown at the value, an unknown key at the key, a missing key at its table's header or
opening brace (at the start of the file for a key outside all tables).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import ValidationError

from proxy.config import environment
from proxy.config.admin_checks import advise_admin, check_admin
from proxy.config.attach_checks import check_attachments, check_queries
from proxy.config.callbacks import check_callbacks
from proxy.config.caller_checks import check_callers, check_keys, check_networks
from proxy.config.checks import (
    check,
    check_legacy,
    check_patterns,
    check_pkce,
    check_secrets,
    check_state_dir,
)
from proxy.config.corrected import corrected
from proxy.config.credential_tables import check_grants
from proxy.config.environment import Environment
from proxy.config.exposed_files import check_exposed
from proxy.config.fault_messages import Complaint, complaints
from proxy.config.files import Files
from proxy.config.lookups import Lookup
from proxy.config.mcp_routes import at_their_credentials, check_routes, with_routes
from proxy.config.model import ENVIRONMENT, Config
from proxy.config.plain_names import advise_names
from proxy.config.positions import Path as KeyPath
from proxy.config.probes import advise_probes
from proxy.config.references import LoadContext, lookup_of
from proxy.config.schema import schema
from proxy.config.shared_cookies import check_cookies
from proxy.config.source import Source
from proxy.config.step_checks import check_step_secrets, check_steps
from proxy.config.subject_checks import check_subjects
from proxy.config.tables import table
from proxy.config.unused import advise_unused
from proxy.config.variable_checks import Reference, check_variables, references
from proxy.errors import ConfigError, Fault

__all__ = ["Loaded", "find_config", "load", "schema"]

PLACES: Final = (Path("config.toml"), Path("/etc/token-proxy/config.toml"))
NOTHING_FOUND: Final = """\
there is no configuration: no file at $TOKEN_PROXY_CONFIG (not set), {places}, and no TOKEN_PROXY_ variables.
Give a file with -c FILE, or describe one route by variables:
  export TOKEN_PROXY_UPSTREAM=https://api.example.com TOKEN_PROXY_ISSUER=https://login.example.com
  export TOKEN_PROXY_CLIENT_ID=my-client   # and TOKEN_PROXY_CLIENT_SECRET, if it has one
  token-proxy run
docs/operations.md shows both; `token-proxy demo` needs no configuration."""

Check = Callable[[Config], Iterable[Complaint]]
# about several tables, as parsed
RULES: Final = (
    check,
    check_grants,
    check_steps,
    check_attachments,
    check_callers,
    check_subjects,
    check_admin,
    check_variables,
)


class Origin(Protocol):
    """What a configuration is read from."""

    @property
    def data(self) -> dict[str, Any]:
        """As tomllib gives it."""

    @property
    def digest(self) -> str:
        """SHA-256 in hex: differs if the configuration does."""

    @property
    def variables(self) -> frozenset[str]:
        """The environment variables that it consists of, or refers to."""

    @property
    def found(self) -> list[Complaint]:
        """What was wrong while reading."""

    def faults(self, complaints: Iterable[Complaint]) -> list[Fault]:
        """A fault for each complaint, with its place, in order."""


@dataclass(frozen=True, slots=True)
class Read:
    """A configuration as read, before it is checked."""

    origin: Origin
    path: Path | None
    context: LoadContext
    faults: list[Fault]
    more: Collection[Check]

    def faults_of(self, complaints: Iterable[Complaint]) -> list[Fault]:
        """A fault for each complaint, with its place, in order."""
        return self.origin.faults(at_their_credentials(complaints, self.origin.data))


@dataclass(frozen=True, slots=True)
class Loaded:
    config: Config
    warnings: list[Fault]
    advice: list[Fault]  # what `check` says beside: it works, but may surprise
    unused: list[Fault] = field(default_factory=list)  # what has no effect; for `check` too
    variables: frozenset[str] = frozenset()  # the environment variables that it was read from, or refers to
    references: tuple[Reference, ...] = ()  # where its secrets are
    read: Read | None = field(default=None, repr=False)  # None: made in code

    @property
    def files(self) -> Files:
        """The files that it names, as they were read."""
        return self.read.context.files if self.read is not None else Files()

    @property
    def secrets(self) -> bool:
        """Whether they were read."""
        return self.read is None or self.read.context.secrets

    def file(self, reference: Reference) -> Path:
        """The absolute path of the file that it names."""
        name = Path(reference.name).expanduser()
        return name if self.read is None else self.read.context.folder / name

    def lookups(self, credential: str) -> set[Lookup]:
        """What this credential looks up: in a keyring, or by a command."""
        if self.read is None:
            return set()
        data, folder = self.read.origin.data, self.read.context.folder
        values = table(table(data, "credentials"), credential).values()
        return {found for value in values if (found := lookup_of(value, folder)) is not None}

    def again(self, files: Files) -> Loaded:
        """The same configuration, with the secrets that `files` has now. Raises ConfigError."""
        if self.read is None:
            return self
        return _load(replace(self.read, context=replace(self.read.context, files=files)))

    def reread(self, files: Files) -> Loaded:
        """What the file, or the environment, describes now. Raises ConfigError."""
        if self.read is None:
            return self
        read = self.read
        return load(read.path, read.context.environ, more=read.more, files=files)

    def fault(self, path: KeyPath, sentence: str) -> Fault:
        """A fault of the value at `path`, found after loading."""
        if self.read is None:
            return Fault(1, 1, sentence)
        return self.read.faults_of([Complaint(path, sentence)])[0]


def find_config(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The given file, else $TOKEN_PROXY_CONFIG, else the first that exists of PLACES.

    None: there is no file, and the environment alone describes the configuration. Raises ConfigError.
    """
    if given is not None:
        return given
    if named := environ.get("TOKEN_PROXY_CONFIG"):
        if not _exists(Path(named)):
            fault = Fault(
                1, 1, "$TOKEN_PROXY_CONFIG names this file, but there is none - correct or unset it"
            )
            raise ConfigError(named, [fault])
        return Path(named)
    found = next(filter(_exists, PLACES), None)
    if found is None and not environment.given(environ):
        places = " or ".join(map(str, PLACES))
        faults = [Fault(0, 0, NOTHING_FOUND.format(places=places))]
        raise ConfigError("token-proxy", [*faults, *environment.check_unknown(environ, frozenset())])
    return found


def _exists(path: Path) -> bool:
    """Whether there is something, which may be unreadable."""
    try:
        return path.exists()
    except OSError:  # a folder that we may not search
        return True


def load(
    path: Path | None,
    environ: Mapping[str, str] = os.environ,
    *,
    secrets: bool = True,
    more: Collection[Check] = (),
    files: Files | None = None,
) -> Loaded:
    """Load the file at `path`; None: the environment alone. Raises ConfigError.

    `secrets` false: nothing that the configuration refers to need exist (see LoadContext). `more`: further
    checks of valid tables. `files`: reads the secrets in files.
    """
    files = files or Files()
    if path is None:
        context = LoadContext(Path.cwd(), environ, secrets, files)
        return _load(Read(Environment.read(environ), None, context, [], more))
    source = Source.read(path)
    beside = list(environment.check_beside(environ, source.variables))
    context = LoadContext(path.absolute().parent, environ, secrets, files)
    return _load(Read(source, path, context, beside, more))


def _load(read: Read) -> Loaded:
    origin, path, context, faults = read.origin, read.path, read.context, read.faults
    document = corrected(origin.data)
    data = with_routes(document.data)
    config, found = _validate(data, context)
    found += [*check_routes(document.data), *(each for look in RULES for each in look(data))]
    if config is not None:
        others = [each for look in read.more for each in look(config)]
        found += [*check_keys(config.callers), *others]
        found += check_state_dir(config) if context.secrets else ()  # else the store may not be known
    found = [*origin.found, *document.found, *document.placed(at_their_credentials(found, document.data))]
    if config is None or found or faults:
        raise ConfigError(str(path) if path else ENVIRONMENT, [*faults, *origin.faults(found)])
    weak = (
        check_secrets,
        check_step_secrets,
        check_pkce,
        check_legacy,
        check_queries,
        check_networks,
        check_patterns,
    )
    weaknesses = [each for look in weak for each in look(data)]
    if context.secrets:
        weaknesses += check_exposed(data, context.folder)
    warnings = read.faults_of(weaknesses)
    warnings += environment.check_unknown(context.environ, origin.variables)
    surprises = check_cookies, advise_names, advise_admin, check_callbacks
    surprising = [*(each for look in surprises for each in look(data)), *advise_probes(config)]
    advice = read.faults_of(surprising)
    config = config.model_copy(update={"path": path, "digest": origin.digest}).with_upstream_fields()
    unused = read.faults_of(advise_unused(data))
    return Loaded(config, warnings, advice, unused, origin.variables, tuple(references(data)), read)


def _validate(data: dict[str, Any], context: LoadContext) -> tuple[Config | None, list[Complaint]]:
    try:
        return Config.model_validate(data, context=context), []
    except ValidationError as error:
        return None, complaints(error.errors(include_url=False, include_input=False), data)

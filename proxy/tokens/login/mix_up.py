"""Whether a redirect comes from the server that its code would be sent to (RFC 9207, RFC 9700 section 4.4).

A malicious authorization server can send the browser on to an honest one, so that the honest one's code comes
back in the malicious one's login, and would be sent there together with the PKCE verifier.
"""

from __future__ import annotations

import logging
from typing import Final

from proxy.config.model import Config, Credential
from proxy.errors import AuthorizationServerError, LoginFailed
from proxy.oauth import authorize, grants
from proxy.oauth.discovery import Endpoints
from proxy.oauth.endpoint import AuthorizationServers
from proxy.observe.events import WARNING, event

OTHER_SERVER: Final = "the redirect comes from another authorization server than the login was sent to"
NO_ISSUER: Final = (
    "the redirect does not name its authorization server (iss), although the server's metadata promise it"
)

_log = logging.getLogger("proxy.logins")


async def check_issuer(
    iss: str | None,
    credential: Credential,
    endpoints: Endpoints,
    config: Config,
    servers: AuthorizationServers,
) -> None:
    """Judge the `iss` of a redirect, with a code or an error alike. Raises LoginFailed.

    With an issuer it must be that one, and be there if the metadata promise it (RFC 9207 section 2.4). With
    endpoints by hand nothing is known to be equal to: some servers name an issuer of another host than
    their endpoints (a custom domain), or one that is no URL (FusionAuth's "acme.com"). Then it is refused if
    it is closer to another credential's server: only a server where we are a client, too, gives us codes.
    """
    if endpoints.issuer is not None:
        if iss is None and endpoints.iss_in_callback:
            raise LoginFailed(NO_ISSUER, "no_issuer")
        if iss is not None and iss != endpoints.issuer:
            raise LoginFailed(OTHER_SERVER, "other_server")
        return
    if not iss:
        return
    ours = authorize.closeness(iss, _urls(credential))
    for other in _others(config, credential):
        is_closer = authorize.closeness(iss, _urls(other)) > ours
        if is_closer and not await _is_same_server(other, endpoints, servers):
            raise LoginFailed(OTHER_SERVER, "other_server")
    if ours == 0:
        sentence = (
            f"{credential.name}: the redirect of a login names an issuer that has nothing in common with the "
            "configured endpoints; if it is theirs, `issuer` instead of endpoints lets it be checked"
        )
        event(_log, WARNING, "odd_issuer", sentence, credential=credential.name)


def _others(config: Config, credential: Credential) -> list[Credential]:
    """The other credentials with logins."""
    return [
        other
        for other in config.credentials.values()
        if other.name != credential.name and grants.of(other).needs_person
    ]


async def _is_same_server(other: Credential, endpoints: Endpoints, servers: AuthorizationServers) -> bool:
    """Whether the other credential's codes go to the same token endpoint."""
    try:
        theirs = await servers.endpoints(other)
    except AuthorizationServerError:
        return False
    return theirs.token_endpoint == endpoints.token_endpoint


def _urls(credential: Credential) -> list[str]:
    urls = (credential.issuer, credential.authorization_endpoint, credential.token_endpoint)
    return [url for url in urls if url is not None]

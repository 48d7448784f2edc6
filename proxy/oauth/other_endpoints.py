"""Requests to the revocation, introspection, device authorization and PAR endpoints."""

from __future__ import annotations

from urllib.parse import urlencode

from authlib.oauth2.rfc7009 import prepare_revoke_token_request

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import TRY_LATER, AuthorizationServerError
from proxy.oauth import authorize, client_auth, device, documents, expires_in, par, token_response
from proxy.oauth.authorize import AuthorizationRequest
from proxy.oauth.device import DeviceAuthorization
from proxy.oauth.discovery import Discovery
from proxy.oauth.documents import UnreadableDocument
from proxy.oauth.dpop import Prover
from proxy.oauth.fetch import Reply
from proxy.oauth.grants.device_code import authorization_form
from proxy.oauth.posts import Posts
from proxy.secret import Secret


async def device_authorization(
    posts: Posts, discovery: Discovery, credential: Credential, clock: Clock
) -> DeviceAuthorization:
    """Codes for a login on another device (RFC 8628 section 3.1). Raises AuthorizationServerError."""
    url = (await discovery.endpoints(credential)).get("device_authorization_endpoint")
    if url is None:
        raise AuthorizationServerError("misconfigured", "no_device_authorization_endpoint")
    body = urlencode(authorization_form(credential), doseq=True)
    reply = await posts.send(credential, url, body, await posts.auth_of(credential))
    _check_redirect(reply, "device_redirect")
    now = expires_in.server_time(reply.headers)
    return device.parse(reply.status, reply.headers, reply.body, now=clock.wall() if now is None else now)


async def introspected_lifetime(
    posts: Posts, discovery: Discovery, credential: Credential, token: Secret, clock: Clock
) -> float | None:
    """The remaining lifetime in seconds by introspection (RFC 7662); None: the server states none.

    Raises AuthorizationServerError.
    """
    endpoint = credential.introspection_endpoint
    if endpoint is None and credential.issuer is not None:
        endpoint = (await discovery.endpoints(credential)).introspection_endpoint  # None if it is unsafe
    if endpoint is None:
        return None
    body = urlencode({"token": token.reveal(), "token_type_hint": "access_token"})
    reply = await posts.send(credential, endpoint, body, await posts.auth_of(credential))
    _check_redirect(reply, "introspection_redirect")
    try:
        claims = documents.read(reply.headers, reply.body, ("active",)).members
    except UnreadableDocument:
        claims = {}
    if reply.status != 200 or claims.get("active") is not True:
        raise AuthorizationServerError("transient", "introspection")
    now = expires_in.server_time(reply.headers)
    return expires_in.of_claims(claims, clock.wall() if now is None else now)


async def revoke(
    posts: Posts, discovery: Discovery, credential: Credential, token: Secret, hint: str
) -> bool:
    """Revoke a token (RFC 7009). False if the server has no such endpoint.

    Without a proof of possession, also of a token that is bound to a key: RFC 9449 asks for none here.

    Raises AuthorizationServerError.
    """
    endpoint = credential.revocation_endpoint
    if endpoint is None:
        endpoint = (await discovery.endpoints(credential)).get("revocation_endpoint")
    if endpoint is None:
        return False
    body, _ = prepare_revoke_token_request(token.reveal(), hint, "", {})
    reply = await posts.send(credential, endpoint, body, await posts.auth_of(credential))
    _check_redirect(reply, "revocation_redirect")
    if 400 <= reply.status < 500 and reply.status not in TRY_LATER:
        raise AuthorizationServerError("misconfigured", "revocation_refused", status=reply.status)
    if not 200 <= reply.status < 300:
        raise AuthorizationServerError("transient", token_response.http_error(reply.status))
    return True


async def push(
    posts: Posts,
    credential: Credential,
    endpoint: str,
    request: AuthorizationRequest,
    clock: Clock,
    prover: Prover | None,
) -> str:
    """Push an authorization request (RFC 9126); its request_uri. Raises AuthorizationServerError.

    With DPoP, the request names the key (dpop_jkt), which is enough for RFC 9449 section 10.1. It is proven
    too, as some servers (those of the AT Protocol) require that.
    """
    form = authorize.pushed_form(credential, request)
    auth = await posts.auth_of(credential)
    reply = await posts.send(credential, endpoint, form, auth, prover=prover)
    _check_redirect(reply, "par_redirect")
    try:
        return par.read(reply, clock.wall())
    except AuthorizationServerError as error:
        error.hint = client_auth.hint(credential, auth.method, error.error)
        raise


def _check_redirect(reply: Reply, error: str) -> None:
    """No redirect is followed. Raises AuthorizationServerError with this code."""
    if 300 <= reply.status < 400:
        raise AuthorizationServerError("misconfigured", error)

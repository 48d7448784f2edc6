"""An authorization server and an API for tests, and `token-proxy demo`.

The server follows RFC 6749 and RFC 9700 (refresh tokens rotate, reuse revokes the login) until a fault is
scripted, and keeps a journal of its requests, actions and tokens. In an async test, in the same process:

    import aiohttp
    from proxy.demo import AuthorizationServer, Client, faults, fingerprint, running

    async def test_a_lost_response_is_repeated():
        server = AuthorizationServer(clients=[Client("app", auth_method="none")], grace=30)
        async with running(server.application()) as issuer:
            tokens = server.issue("app", "alice")                  # as from a login
            server.script(faults.NAMED["drop-after-commit"])       # applies to the next token request
            new = await refresh_twice(issuer, tokens["refresh_token"])

        lost, again = server.token_requests
        assert (lost.outcome, lost.status) == ("granted", None)    # None: the client got no response
        assert again.outcome == "repeated"                         # within the grace of 30 seconds
        assert server.families_revoked == 0
        record = server.token_record(fingerprint(new["access_token"]))
        assert (record.subject, record.generation) == ("alice", 2)

    async def refresh_twice(issuer, refresh_token):
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "app"}
        async with aiohttp.ClientSession() as http:
            try:
                await http.post(f"{issuer}/token", data=form)
            except aiohttp.ServerDisconnectedError:
                async with http.post(f"{issuer}/token", data=form) as response:
                    return await response.json()

Contents:

    AuthorizationServer   the server: its settings, faults and journal
    Client                a client registered at it
    running               serves an application (of the server or the API) for the length of a block
    api_application       an API that requires the server's tokens
    faults, Fault         faults by name, or composed of parts
    journal               TokenRequest, ApiRequest, Revocation, TokenRecord; fingerprint
    started, RemoteServer the same in a separate process (`python -m proxy.demo`), for tests without
                          asyncio; `proxy.demo.control` has its HTTP interface, for other languages

docs/testing.md is the longer guide.
"""

from proxy.demo import faults
from proxy.demo.api import api_application
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.clients import Client
from proxy.demo.faults import Answer, Fault
from proxy.demo.journal import ApiRequest, Revocation, TokenRecord, TokenRequest, fingerprint
from proxy.demo.remote import ControlRefused, RemoteServer, started
from proxy.demo.serve import running

__all__ = [
    "Answer",
    "ApiRequest",
    "AuthorizationServer",
    "Client",
    "ControlRefused",
    "Fault",
    "RemoteServer",
    "Revocation",
    "TokenRecord",
    "TokenRequest",
    "api_application",
    "faults",
    "fingerprint",
    "running",
    "started",
]

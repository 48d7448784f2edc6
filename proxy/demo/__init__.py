"""An authorization server and an API to test against, and `token-proxy demo`, which shows them.

The server behaves as RFC 6749 and RFC 9700 ask (refresh tokens rotate, reuse ends the login), until it is
told not to; and it keeps a journal of what it saw, did and gave. In an async test, in the same process:

    import aiohttp
    from proxy.demo import AuthorizationServer, Client, faults, fingerprint, running

    async def test_a_lost_answer_is_got_again():
        server = AuthorizationServer(clients=[Client("app", auth_method="none")], grace=30)
        async with running(server.application()) as issuer:
            tokens = server.issue("app", "alice")                  # as from a login
            server.script(faults.NAMED["drop-after-commit"])       # befalls the next token request
            new = await refresh_twice(issuer, tokens["refresh_token"])

        lost, again = server.token_requests
        assert (lost.outcome, lost.status) == ("granted", None)    # None: the client got no answer
        assert again.outcome == "repeated"                         # it came within the grace of 30 seconds
        assert server.families_revoked == 0
        record = server.token_record(fingerprint(new["access_token"]))
        assert (record.subject, record.generation) == ("alice", 2)

    async def refresh_twice(issuer, refresh_token):
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "app"}
        async with aiohttp.ClientSession() as http:
            try:
                await http.post(f"{issuer}/token", data=form)
            except aiohttp.ServerDisconnectedError:
                async with http.post(f"{issuer}/token", data=form) as answer:
                    return await answer.json()

Where to look:

    AuthorizationServer   the server: its ways, its faults, its journal
    Client                who may ask it for tokens
    running               serves an application (the server's, the API's) while a block lasts
    api_application       an API that wants the server's tokens
    faults, Fault         what can go wrong: by name, or made up of parts
    journal               TokenRequest, ApiRequest, Revocation, TokenRecord; fingerprint
    started, RemoteServer the same in a process of its own (`python -m proxy.demo`), for tests without
                          asyncio; `proxy.demo.control` has the HTTP side of it, for other languages

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

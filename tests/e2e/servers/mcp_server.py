"""The reference SDK's MCP server, which asks the authorization server about each token (RFC 7662).

Told by the environment (ISSUER, INTROSPECTION, PORT); tells on stdout that it is ready, and of each call the
agent, the person, and the number of the access token.
"""

import asyncio
import json
import os
import time
from typing import Any

import aiohttp
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer

ISSUER, INTROSPECTION, PORT = (os.environ[name] for name in ("ISSUER", "INTROSPECTION", "PORT"))
URL = f"http://127.0.0.1:{PORT}/mcp"
seen: list[str] = []  # access tokens, in the order of their first use


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, "at": time.time(), **facts}), flush=True)


class Verifier:
    async def verify_token(self, token: str) -> AccessToken | None:
        fields = {"Authorization": aiohttp.encode_basic_auth("reader", "introspect")}
        async with (
            aiohttp.ClientSession() as http,
            http.post(INTROSPECTION, data={"token": token}, headers=fields) as response,
        ):
            claims: dict[str, Any] = await response.json()
        if not claims.get("active"):
            tell("refused", claims=claims)
            return None
        if token not in seen:
            seen.append(token)
        return AccessToken(
            token=token,
            client_id=claims["client_id"],
            scopes=claims["scope"].split(),
            expires_at=claims["exp"],
            resource=claims["aud"],
            subject=claims["sub"],
        )


server = MCPServer(
    "tests",
    token_verifier=Verifier(),
    auth=AuthSettings(
        issuer_url=ISSUER,
        resource_server_url=URL,
        required_scopes=["tools"],
        validate_token_resource=True,
    ),
    log_level="ERROR",
)


@server.tool()
async def whoami(agent: str) -> str:
    """The person whose token came with the call."""
    token = get_access_token()
    assert token is not None
    tell("call", agent=agent, subject=token.subject, token=seen.index(token.token))
    return str(token.subject)


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Slowly, with a notification for each step: a stream of events."""
    for step in range(to):
        await ctx.report_progress(step, to)
        await asyncio.sleep(0.3)
    return str(to)


async def main() -> None:
    serving = asyncio.create_task(
        server.run_streamable_http_async(host="127.0.0.1", port=int(PORT), streamable_http_path="/mcp")
    )
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(PORT))
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        tell("ready", url=URL)
        break
    await serving


asyncio.run(main())

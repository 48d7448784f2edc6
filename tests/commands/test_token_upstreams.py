"""An upstream that the token response names outlives a restart of the server: it is stored with the token."""

from __future__ import annotations

import json
import ssl

import trustme
from aiohttp import web

from proxy.demo.faults import Fault
from proxy.demo.serve import running


async def test_the_named_upstream_survives_a_restart(bench, tmp_path):
    authority, got = trustme.CA(), []
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    app = web.Application()

    async def respond(request):
        got.append((request.path, request.headers["Authorization"]))
        return web.json_response({"path": request.path})

    app.router.add_get("/{path:.*}", respond)
    async with running(app, ssl_context=context) as url:
        more = f"""
[[routes]]
path = "/moved"
upstream = "{{instance_url}}/v2"
upstream_hosts = ["{url.removeprefix("https://")}"]
credential = "machine"
tls = {{ ca = "{tmp_path}/ca.pem" }}
"""
        bench.path.write_text(bench.path.read_text() + more)
        bench.server.script(Fault(change={"instance_url": url}), grant_type="client_credentials")
        for _ in range(2):
            server = await bench.run()
            response = await bench.get(f"{bench.data}/moved/x")
            assert response.status == 200, json.dumps(got)
            server.signal()
            assert await server.end() == 0
    (path, token), again = got
    assert path == "/v2/x"
    assert again == (path, token)  # of the store: the second response would have named no upstream
    assert bench.granted() == ["client_credentials"]

"""Every combination of what tells who sends a request, against a plain restatement of the rules."""

import hashlib
import itertools
import os

import pytest
from multidict import CIMultiDict

from proxy.admin import peers
from proxy.admin.sessions import Ground, Visitor
from tests.admin.test_sessions import KEY, begun, sessions_of

PROXY = "10.1.2.3"
CONFIG = """
[server]
admin_key = "{key}"
public_url = "{public_url}"
admin_trusts = {{ header = "X-Remote-User", from = ["{proxy}"] }}
"""
ROWS = {
    "peer": ["own", "root", "other", "unknown"],
    "address": ["127.0.0.1", PROXY, "::ffff:10.1.2.3", "10.1.2.4"],
    "named": [False, True],
    "session": [False, True],
    "bearer": ["", KEY, "a-token-for-somebody-else"],
    "forwarded": [False, True],
    "host": ["127.0.0.1:8081", "localhost", "tokens.example"],
    "public_url": ["http://127.0.0.1:8081", "https://tokens.example"],
}


class Transport:
    def __init__(self, address):
        self._address = address

    def get_extra_info(self, name):
        return (self._address, 1) if name == "peername" else None


def expected(row):
    is_trusted = row["address"] in {PROXY, f"::ffff:{PROXY}"}
    if row["bearer"] == KEY:
        return Visitor(Ground.KEY)
    if row["named"] and is_trusted:
        return Visitor(Ground.PROXY, "proxy:ann")
    if row["session"]:
        return Visitor(Ground.SESSION)
    is_direct = not row["forwarded"] and not is_trusted
    is_here = row["host"] != "tokens.example" and "127.0.0.1" in row["public_url"]
    return Visitor(Ground.PEER) if is_direct and is_here and row["peer"] in {"own", "root"} else None


@pytest.mark.parametrize("public_url", ROWS["public_url"])
def test_every_combination(public_url, tmp_path, monkeypatch):
    uids = {"own": os.geteuid(), "root": 0, "other": os.geteuid() + 1, "unknown": None}
    text = CONFIG.format(key=KEY, public_url=public_url, proxy=PROXY)
    sessions = sessions_of(text, tmp_path)
    rows = [row for row in itertools.product(*ROWS.values()) if row[-1] == public_url]
    assert len(rows) == 1152
    for values in rows:
        row = dict(zip(ROWS, values, strict=True))
        is_named = row["named"] and row["address"].endswith(PROXY)
        request = begun(sessions, "l", "proxy:ann" if is_named else "")
        if not row["session"]:
            request.cookies.pop(sessions.session_cookie)
        request.transport, request.host = Transport(row["address"]), row["host"]
        request.headers = CIMultiDict()
        if row["named"]:
            request.headers["X-Remote-User"] = "ann"
        if row["bearer"]:
            request.headers["Authorization"] = f"Bearer {row['bearer']}"
        if row["forwarded"]:
            request.headers["X-Forwarded-For"] = "192.0.2.1"
        monkeypatch.setattr(peers, "uid_of", lambda _transport, uid=uids[row["peer"]]: uid)
        sessions._attempts._full_at.clear()
        assert sessions.visitor(request) == expected(row), row


def test_a_certificate_names_its_holder(tmp_path):
    for name in ("own.pem", "ca.pem"):
        (tmp_path / name).touch()
    tls = '[server]\nadmin_tls = { cert = "own.pem", key = "own.pem", client_ca = "ca.pem" }'
    sessions = sessions_of(tls, tmp_path)

    class Certified(Transport):
        def get_extra_info(self, name):
            return self if name == "ssl_object" else super().get_extra_info(name)

        def getpeercert(self, *, binary_form):
            assert binary_form
            return b"certificate"

    request = begun(sessions, "l")
    request.transport = Certified("127.0.0.1")
    digest = hashlib.sha256(b"certificate").hexdigest()
    assert sessions.visitor(request) == Visitor(Ground.CERTIFICATE, f"certificate:{digest}")

"""The server's side of DPoP (RFC 9449 section 4.3): each claim by hand, the signature by joserfc."""

from __future__ import annotations

import base64
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qsl

from aiohttp import web
from joserfc import jws, jwt
from joserfc.jwk import JWKRegistry

ALGORITHMS = ["ES256", "ES384", "ES512", "EdDSA", "Ed25519", "PS256", "RS256"]
WINDOW = 60  # seconds around now in which a proof counts


class BadProof(Exception):
    pass


@dataclass
class Verifier:
    """Remembers each jti. `nonce`: required of each proof, if not empty."""

    now: Callable[[], float]  # Unix seconds
    nonce: str = ""
    seen: set[str] = field(default_factory=set)

    def check(self, fields: list[str], method: str, url: str, access_token: str = "") -> str:
        """The thumbprint of the proof's key. Raises BadProof, LookupError for a lacking nonce."""
        if len(fields) != 1:
            raise BadProof(f"{len(fields)} proofs")
        registry = jws.JWSRegistry(algorithms=ALGORITHMS)
        registry.max_header_length = 4096  # of a proof by an RSA key
        header = json.loads(base64.urlsafe_b64decode(fields[0].partition(".")[0] + "=="))
        if header.keys() != {"typ", "alg", "jwk"} or header["typ"] != "dpop+jwt":
            raise BadProof(f"header {header}")
        if header["alg"] not in ALGORITHMS or header["jwk"].keys() & {"d", "p", "q", "k", "alg", "kid"}:
            raise BadProof(f"header {header}")
        key = JWKRegistry.import_key(header["jwk"])
        with warnings.catch_warnings(action="ignore"):
            claims = jwt.decode(fields[0], key, registry=registry).claims
        expected = {"htm": method, "htu": url}
        if access_token:
            digest = hashlib.sha256(access_token.encode()).digest()
            expected["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if self.nonce and claims.get("nonce") != self.nonce:
            raise LookupError("nonce")
        if {name: claims.get(name) for name in expected} != expected:
            raise BadProof(f"{claims} instead of {expected}")
        if claims.keys() - {"nonce"} != {"jti", "iat", *expected}:
            raise BadProof(f"claims {claims}")
        if not isinstance(claims["iat"], int) or not -WINDOW < claims["iat"] - self.now() <= 0:
            raise BadProof(f"iat {claims['iat']}")
        if claims["jti"] in self.seen or len(claims["jti"]) < 16:
            raise BadProof("jti")
        self.seen.add(claims["jti"])
        return key.thumbprint()


@dataclass
class DpopServer:
    """An authorization server of a public client, whose refresh tokens are bound to the key too."""

    verifier: Verifier
    url: str = ""
    metadata: dict = field(default_factory=dict)
    token_type: str | None = "DPoP"
    codes: dict[str, str] = field(default_factory=dict)  # code -> dpop_jkt
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    bound: dict[str, str] = field(default_factory=dict)  # access token -> thumbprint
    forms: list[dict] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    lifetime: int = 3600
    renews_nonce: bool = False  # each response has another one

    def application(self):
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", self.describe)
        app.router.add_post("/token", self.token)
        return app

    async def describe(self, _request):
        endpoints = {f"{name}_endpoint": f"{self.url}/{name}" for name in ("authorization", "token")}
        return web.json_response({"issuer": self.url, **endpoints, **self.metadata})

    async def token(self, request):
        form = dict(parse_qsl(await request.text()))
        self.forms.append(form)
        answer = self._judged(form, request.headers.getall("DPoP", []))
        self.outcomes.append(answer.get("error", "success"))
        if self.renews_nonce:
            self.verifier.nonce = f"nonce-{len(self.forms)}"
        headers = {"Date": formatdate(self.verifier.now(), usegmt=True)}
        headers |= {"DPoP-Nonce": self.verifier.nonce} if self.verifier.nonce else {}
        return web.json_response(answer, status=400 if "error" in answer else 200, headers=headers)

    def _judged(self, form, fields):
        try:
            thumbprint = self.verifier.check(fields, "POST", f"{self.url}/token")
        except LookupError:
            return {"error": "use_dpop_nonce"}
        except BadProof as error:
            return {"error": "invalid_dpop_proof", "error_description": str(error)}
        grant, number = form["grant_type"], len(self.forms)
        known = {"authorization_code": self.codes, "refresh_token": self.refresh_tokens}.get(grant)
        sent = form.get("code") or form.get("refresh_token", "")
        if known is not None and known.pop(sent, None) != thumbprint:
            return {"error": "invalid_grant"}
        self.refresh_tokens[f"R{number}"] = self.bound[f"A{number}"] = thumbprint
        tokens = {"access_token": f"A{number}", "refresh_token": f"R{number}", "expires_in": self.lifetime}
        return tokens if self.token_type is None else {**tokens, "token_type": self.token_type}

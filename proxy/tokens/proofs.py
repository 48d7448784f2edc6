"""Tokens bound to a key: each request carries a proof of possession of its own (RFC 9449 section 7).

An upstream that wants a nonce in the proof refuses the request with a 401 that brings one; the same request
is then sent again. The last nonce of each upstream is remembered, for all accounts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from proxy.clock import Clock
from proxy.config.attach import Attach
from proxy.http import fields
from proxy.oauth import dpop
from proxy.oauth.dpop import Nonces, Prover
from proxy.secret import Secret
from proxy.tokens.attachment import Attachment

# The code in a challenge of this scheme; a field may have several challenges, and parameters in any order.
_ASKS: Final = re.compile(
    rb'(?i:(?:^|[\s,])dpop[ \t]+)(?:.*[\s,])?error[ \t]*=[ \t]*"?use_dpop_nonce(?:["\s,]|$)'
)
_NONCE_FIELD: Final = dpop.NONCE_FIELD.lower().encode("ascii")

_nonces: Final = Nonces()  # of upstreams


class ProvingAttachment(Attachment):
    __slots__ = ("_clock", "_prover", "_server")

    def __init__(
        self, access_token: Secret, places: Sequence[Attach], key: Secret, server: str, clock: Clock
    ) -> None:
        """`key`: the token's. `server`: the authorization server, by whose clock proofs are dated."""
        super().__init__(access_token, places, dpop.SCHEME)
        self._prover = Prover(key)
        self._server = server
        self._clock = clock

    def fields_for(self, method: bytes, origin: str, target: bytes) -> bytes:
        heard = self._clock.heard.get(self._server)
        proof = self._prover.proof(
            method.decode("ascii"),
            origin + target.decode("latin-1"),
            self._clock.wall() if heard is None else heard + self._clock.boot(),
            nonce=_nonces.of(origin),
            access_token=self.access_token.reveal(),
        )
        return b"%b\r\nDPoP: %b" % (self.fields, proof.encode("ascii"))

    def learn(self, origin: str, block: bytes) -> bool:
        sent = fields.values(block, _NONCE_FIELD)
        if len(sent) != 1 or not _nonces.learn(origin, sent[0].decode("latin-1")):
            return False
        return any(map(_ASKS.search, fields.values(block, b"www-authenticate")))

"""`token-proxy login` on another device (RFC 8628): shows the codes, and polls until the person has decided.

No redirect is needed, so neither is a server: this process polls, and its end ends the login.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from proxy import qr_code
from proxy.config.model import Config, Credential
from proxy.oauth import grants
from proxy.oauth.device import DeviceAuthorization
from proxy.oauth.grants import Login

Say = Callable[[str], object]


def is_on_device(config: Config, credential: str) -> bool:
    """Whether the logins of this credential are on another device."""
    found: Credential | None = config.credentials.get(credential)
    return found is not None and grants.of(found).login is Login.DEVICE


def lines_for(codes: DeviceAuthorization, *, in_colour: bool) -> Iterator[str]:
    """What the person needs to know. `in_colour`: the terminal can show a QR code."""
    yield "Log in here, on any device:"
    yield codes.verification_uri
    yield f"and enter this code: {codes.user_code}"
    if codes.complete_uri:
        yield "With the code in it:"
        yield codes.complete_uri
    if in_colour:
        yield qr_code.text(codes.link)
    yield f"Waiting until somebody has done that, for {codes.lifetime / 60:.0f} minutes at most:"

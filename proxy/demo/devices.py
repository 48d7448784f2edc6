# mypy: allow-untyped-calls
"""Device authorization (RFC 8628) at the demo's server: codes, the page to enter them, and the polls."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE, DeviceAuthorizationEndpoint, DeviceCodeGrant

from proxy.clock import Clock

if TYPE_CHECKING:
    from proxy.demo.clients import Client

LIFETIME: Final = 600.0  # seconds of a code
_SLACK: Final = 0.5  # seconds by which a poll may be early: timers and networks are not exact
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628 section 6.1


@dataclass(slots=True, eq=False)
class Device:
    """A login on another device. `polled_at` and `expires_at`: boot clock."""

    client_id: str
    scope: str
    device_code: str
    user_code: str
    interval: float
    expires_at: float
    subject: str | None = None  # who has decided; None: nobody yet
    approved: bool = False
    polled_at: float = float("-inf")
    used: bool = False


class Devices:
    """The codes that the server has given out."""

    def __init__(self, clock: Clock) -> None:
        self.interval = 1.0  # seconds between polls; shorter than the RFC's, for tests and impatient people
        self.lifetime = LIFETIME
        self.early_polls = 0
        self._clock = clock
        self._by_device_code: dict[str, Device] = {}
        self._by_user_code: dict[str, Device] = {}

    def new(self, client_id: str, scope: str) -> Device:
        user_code = "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(2))
        expires_at = self._clock.boot() + self.lifetime
        device = Device(client_id, scope, secrets.token_urlsafe(32), user_code, self.interval, expires_at)
        self._by_device_code[device.device_code] = self._by_user_code[user_code] = device
        return device

    def of_user_code(self, value: str) -> Device | None:
        """A code to be decided, however it is written (RFC 8628 section 6.1); None if it is not valid now."""
        letters = "".join(letter for letter in value.upper() if letter in _LETTERS)
        device = self._by_user_code.get(f"{letters[:4]}-{letters[4:]}")
        is_open = device is not None and device.subject is None and not self.is_expired(device)
        return device if is_open else None

    def decided(self, user_code: str) -> Device | None:
        device = self._by_user_code.get(user_code)
        return device if device is not None and device.subject is not None else None

    def of_device_code(self, value: str) -> Device | None:
        device = self._by_device_code.get(value)
        return None if device is None or device.used else device

    def is_expired(self, device: Device) -> bool:
        return self._clock.boot() >= device.expires_at

    def is_early(self, device: Device) -> bool:
        """Note a poll; whether it came before its time, which makes the interval longer."""
        now, before = self._clock.boot(), device.polled_at
        device.polled_at = now
        if now - before >= device.interval - _SLACK:
            return False
        device.interval += 5
        self.early_polls += 1
        return True


class DeviceEndpoint(DeviceAuthorizationEndpoint):
    """RFC 8628 section 3.1."""

    server: Any
    EXPIRES_IN = int(LIFETIME)

    def create_endpoint_response(self, request: Any) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        client: Client = self.authenticate_client(request)
        scope = client.get_allowed_scope(request.payload.scope)
        if not client.check_grant_type(DEVICE_CODE_GRANT_TYPE):
            return 400, {"error": "unauthorized_client"}, []
        if scope is None:
            return 400, {"error": "invalid_scope"}, []
        device = self.server.devices.new(client.client_id, scope)
        uri = f"{self.server.issuer}/device"
        document = {
            "device_code": device.device_code,
            "user_code": device.user_code,
            "verification_uri": uri,
            "verification_uri_complete": f"{uri}?user_code={device.user_code}",
            "expires_in": int(self.server.devices.lifetime),
            "interval": int(device.interval),
        }
        return 200, document, [("Content-Type", "application/json"), ("Cache-Control", "no-store")]


class DeviceGrant(DeviceCodeGrant):
    """RFC 8628 section 3.4."""

    server: Any

    def query_device_credential(self, device_code: str) -> Any:
        device = self.server.devices.of_device_code(device_code)
        return None if device is None else _Credential(device, self.server.devices)

    def query_user_grant(self, user_code: str) -> tuple[str, bool] | None:
        device = self.server.devices.decided(user_code)
        return None if device is None else (device.subject, device.approved)

    def should_slow_down(self, credential: _Credential) -> bool:
        return bool(self.server.devices.is_early(credential.device))

    def save_token(self, token: dict[str, Any]) -> Any:
        request: Any = self.request
        request.credential.device.used = True
        return super().save_token(token)


class _Credential:
    """The methods that Authlib requires."""

    def __init__(self, device: Device, devices: Devices) -> None:
        self.device = device
        self._devices = devices

    def get_client_id(self) -> str:
        return self.device.client_id

    def get_scope(self) -> str:
        return self.device.scope

    def get_user_code(self) -> str:
        return self.device.user_code

    def is_expired(self) -> bool:
        return self._devices.is_expired(self.device)

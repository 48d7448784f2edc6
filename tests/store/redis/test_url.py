"""URLs are parsed strictly and never repeated in errors, as they may hold a password."""

from __future__ import annotations

import ssl

import pytest

from proxy.errors import StoreError
from proxy.secret import Secret
from proxy.store.redis.url import read_url

PASSWORD = "hunter2"


def test_the_parts_of_a_url() -> None:
    address = read_url(f"redis://us%40er:{PASSWORD}%2F%3A@[::1]/3")
    assert (address.host, address.port, address.database) == ("::1", 6379, 3)
    assert (address.username, address.password, address.tls) == ("us@er", Secret(f"{PASSWORD}/:"), None)
    assert str(address) == "redis://[::1]:6379/3"
    assert PASSWORD not in repr(address)
    assert read_url("redis://h:1").password is None


def test_rediss_verifies_the_server() -> None:
    tls = read_url("rediss://h").tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}",
        f"redis://:{PASSWORD}@",
        f"redis://user:{PASSWORD}/x@host",
        f"redis://user:x/{PASSWORD}@host",
        f"redis://user:x?{PASSWORD}@host",
        f"redis://user:x?y={PASSWORD}@host",
        f"redis://user:x#{PASSWORD}@host",
        f"redis://user:{PASSWORD}@host:port",
        f"redis://user:{PASSWORD}@[host",
        f"redis://user:{PASSWORD}@host/name",
        f"redis://user:{PASSWORD}@host?ssl_ca_certs=x",
        f"redis://user:{PASSWORD}@host?retry_on_timeout=yes",
        f"rediss://user:{PASSWORD}@host?ssl_cert_reqs=none",
        f"rediss://user:{PASSWORD}@host?ssl_ca_certs=/no/such/file",
        f"rediss://user:{PASSWORD}@host?ssl_certfile=/no/such/file",
    ],
)
def test_an_invalid_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StoreError, match=r"^store\.url ") as error:
        read_url(url)
    assert PASSWORD not in str(error.value)

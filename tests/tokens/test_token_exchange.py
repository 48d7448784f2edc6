"""grant = "token_exchange" with a subject that the platform writes: read again for each exchange."""

from __future__ import annotations

import pytest

from proxy.demo.authorization_server import Client
from proxy.errors import Misconfigured
from tests.tokens.conftest import HOUR

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
CREDENTIAL = (
    'grant = "token_exchange"\nclient_id = "web"\nsubject_token = { file = "subject" }\n'
    'audience = "https://api.example"\nscopes = ["api"]'
)


@pytest.fixture
async def platform(make_side, tmp_path):
    (tmp_path / "subject").write_text("to-be-written")
    clients = (Client("web", "s3cret", grants=(EXCHANGE, "authorization_code")),)
    async with make_side(credential=CREDENTIAL, clients=clients) as side:
        file = tmp_path / "subject"

        def write(person):
            file.write_text(side.server.issue("web", person)["access_token"] + "\n")

        yield side, write


async def test_the_platforms_token_is_exchanged_and_read_again(platform):
    side, write = platform
    write("pod-1")
    account = side.account()
    served = await side.tokens.get(account)
    assert side.server.active(served.access_token.reveal()) == "pod-1"
    (form,) = side.server.exchanges
    assert (form["audience"], form["scope"]) == ("https://api.example", "api")
    side.clock.advance(HOUR)
    write("pod-1")
    assert side.is_good(await side.tokens.get(account))
    subjects = {each["subject_token"] for each in side.server.exchanges}
    assert len(subjects) == 2


async def test_a_refused_subject_is_a_fault_of_the_configuration(platform):
    side, _ = platform
    with pytest.raises(Misconfigured) as caught:
        await side.tokens.get(side.account())
    assert "(invalid_request)" in str(caught.value)
    assert "to-be-written" not in str(caught.value)

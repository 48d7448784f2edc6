"""The real command against real authorization servers, with real callers.

How the pieces fit (each is a process of its own, on ports of 127.0.0.1):

    caller (curl, requests, Node, Java)  ──►  python -m proxy run  ──►  tests/fakes/upstream.py, TLS
                                                  │                        │ is this token any good?
    Person with a Browser ──► login pages ──►  django-oauth-toolkit or oidc-provider

processes.py               starts a server and reads its journal: what came in, what was the outcome
servers/                   the authorization servers. Their tokens live 5 s, refresh tokens rotate, and a
                           refresh token that comes twice revokes the family, as the strict ones do
authorization_servers.py   starts one together with an upstream that trusts nobody else
reference.py               OAuth by hand: the servers without the product
browser.py                 a person: follows redirects, keeps cookies, fills in the HTML forms it is shown
proxy_process.py           the product: writes the config, runs the server and the commands
callers/                   callers in their own languages

A test takes `server` (it runs once for each authorization server) or `oidc_provider` (it runs once), and
`make_proxy`. The servers live as long as the session; `token_requests` tells what happened in this test.
The programs that this needs are those of tests/servers/programs.py.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .authorization_servers import (
    WEB_SECRET,
    AuthorizationServer,
    start_django_oauth_toolkit,
    start_oidc_provider,
)
from .processes import free_port
from .proxy_process import Proxy

HERE = Path(__file__).parent
ELSEWHERE = "https://proxy.example"  # a public_url that no browser here reaches

MakeProxy = Callable[..., Proxy]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def ports() -> tuple[int, int]:
    """For the data and the admin listener of every proxy: the redirect URIs are registered once."""
    return free_port(), free_port()


@pytest.fixture(scope="session")
def redirect_uris(ports: tuple[int, int]) -> list[str]:
    return [f"http://127.0.0.1:{ports[1]}/callback", f"{ELSEWHERE}/callback"]


@pytest.fixture(scope="session")
def running_django_oauth_toolkit(
    tmp_path_factory: pytest.TempPathFactory, redirect_uris: list[str]
) -> Iterator[AuthorizationServer]:
    server = start_django_oauth_toolkit(tmp_path_factory.mktemp("django_oauth_toolkit"), redirect_uris)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def running_oidc_provider(
    tmp_path_factory: pytest.TempPathFactory, redirect_uris: list[str]
) -> Iterator[AuthorizationServer]:
    server = start_oidc_provider(tmp_path_factory.mktemp("oidc_provider"), redirect_uris)
    yield server
    server.stop()


@pytest.fixture
def oidc_provider(running_oidc_provider: AuthorizationServer) -> AuthorizationServer:
    running_oidc_provider.service.mark()
    return running_oidc_provider


@pytest.fixture(params=["django_oauth_toolkit", "oidc_provider"])
def server(request: pytest.FixtureRequest) -> AuthorizationServer:
    running: AuthorizationServer = request.getfixturevalue(f"running_{request.param}")
    running.service.mark()
    return running


@pytest.fixture
def make_proxy(tmp_path: Path, ports: tuple[int, int]) -> Iterator[MakeProxy]:
    """Configure a proxy with the credential `crm` and the route /api; it is stopped when the test ends."""
    made: list[Proxy] = []

    def make(
        server: AuthorizationServer,
        credential: str | None = None,
        more: str = "",
        public_url: str | None = None,
    ) -> Proxy:
        data_port, admin_port = ports
        proxy = Proxy(
            tmp_path,
            data_port,
            admin_port,
            public_url or f"http://127.0.0.1:{admin_port}",
            {"WEB_SECRET": WEB_SECRET, "M2M_SECRET": server.secret},
        )
        proxy.configure(server, credential or server.person_credential(), more)
        made.append(proxy)
        return proxy

    yield make
    for proxy in made:
        proxy.stop()

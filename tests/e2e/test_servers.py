"""The harness without a proxy: the behaviour of the servers that the other tests rely on."""

from .authorization_servers import ACCESS_TTL, AuthorizationServer
from .processes import wait_until
from .reference import ask_token_endpoint, call_upstream, log_in, refresh


def test_a_login_by_the_real_pages_gives_a_token_that_the_upstream_accepts_until_it_expires(
    server: AuthorizationServer, redirect_uris: list[str]
) -> None:
    tokens = log_in(server, redirect_uris[0])
    response = call_upstream(server, tokens["access_token"])
    assert (response.status_code, response.json()["subject"]) == (200, "alice")
    assert call_upstream(server, "made-up").status_code == 401
    wait_until(
        lambda: call_upstream(server, tokens["access_token"]).status_code == 401,
        "an expired token to be refused",
        seconds=ACCESS_TTL + 1,
    )


def test_a_refresh_token_rotates_and_its_second_use_revokes_the_family(
    server: AuthorizationServer, redirect_uris: list[str]
) -> None:
    first = log_in(server, redirect_uris[0])
    second = refresh(server, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert call_upstream(server, second["access_token"]).status_code == 200
    assert server.revoked_families() == []

    assert refresh(server, first["refresh_token"]).json()["error"] == "invalid_grant"
    assert len(server.revoked_families()) == 1
    assert refresh(server, second["refresh_token"]).json()["error"] == "invalid_grant"
    wait_until(
        lambda: call_upstream(server, second["access_token"]).status_code == 401,
        "a revoked token to be refused",
    )
    outcomes = [request["outcome"] for request in server.token_requests("refresh_token")]
    assert outcomes == ["success", "invalid_grant", "invalid_grant"]


def test_a_client_with_an_odd_secret_gets_a_token(server: AuthorizationServer) -> None:
    response = ask_token_endpoint(server, "m2m", server.secret, grant_type="client_credentials", scope="api")
    assert response.status_code == 200, response.text
    assert call_upstream(server, response.json()["access_token"]).json()["subject"] == "m2m"
    assert ask_token_endpoint(server, "m2m", "wrong", grant_type="client_credentials").status_code == 401

"""The diagnosis table: each state, reason and grant has a row, and each row is true."""

from __future__ import annotations

import ast
import itertools
from http import HTTPStatus
from pathlib import Path

import pytest

import proxy
from proxy import failure_causes
from proxy.errors import AuthorizationServerError, LoginRequired, Misconfigured, TokenUnavailable
from proxy.failure_causes import Cause
from proxy.oauth import fetch, token_response
from proxy.oauth.grants import GRANTS, Renewal
from proxy.tokens.diagnosis import (
    TABLE,
    Facts,
    Reason,
    Verdict,
    diagnose,
    explain_failure,
    offline_access,
)
from proxy.tokens.diagnosis.failures import CAUSES, OTHER, row_of
from proxy.tokens.diagnosis.hints import HINTS, OF_CAUSES
from proxy.tokens.diagnosis.reasons import STORED
from proxy.tokens.last_attempts import FailedLogin, Refused, Unauthorized
from proxy.tokens.lifetime import STATES
from tests.tokens.made import credential

NOW = 1_795_852_800.0  # 2026-11-28 08:00 UTC
REASONS = [*map(str, Reason), *CAUSES]


def codes_in_the_source():
    """Every code that an AuthorizationServerError is raised with."""
    for path in Path(proxy.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            is_error = (
                isinstance(node, ast.Call) and getattr(node.func, "id", "") == "AuthorizationServerError"
            )
            if is_error and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                yield node.args[1].value


CODES = sorted(
    {*codes_in_the_source(), *token_response.ERRORS, *(name for _, name, _ in fetch._FAILURES), OTHER}
)
STATUSES = [token_response.http_error(status) for status in HTTPStatus if not 300 <= status < 400]


def told(state, reason, grant, usable=False, **more):
    facts = {"can_refresh": True, "scopes": ("api", "mail"), "missing_scopes": ("mail",), **more}
    return diagnose(Facts("crm", "alice", GRANTS[grant], state, reason, usable=usable, now=NOW, **facts))


def failure(code, hint=""):
    return AuthorizationServerError("transient", code, hint=hint)


def test_each_combination_of_state_reason_and_grant_has_a_row():
    assert TABLE.keys() == set(itertools.product(STATES, REASONS, Renewal))
    assert {grant.renewal for grant in GRANTS.values()} == set(Renewal)


def test_each_reason_has_a_row_of_its_own():
    """A reason that only matches rows for a whole state would be reported as another."""
    own = {reason for _, reasons, _, _ in STORED if len(reasons) < len(Reason) for reason in reasons}
    assert own == set(Reason) - {Reason.NONE}


def test_each_row_of_stored_reasons_is_used():
    assert {id(row) for *_, row in STORED} <= {id(row) for row in TABLE.values()}


@pytest.mark.parametrize("code", CODES)
def test_each_code_that_is_raised_has_a_row_of_its_own(code):
    assert code in CAUSES


@pytest.mark.parametrize("code", STATUSES)
def test_each_status_has_the_row_of_its_class(code):
    assert row_of(code) in {"http_2xx", "http_4xx", "http_5xx", "http_429", OTHER}
    assert (row_of(code) == OTHER) == (code[5] == "1")


def test_an_unknown_code_has_the_row_for_unknown_codes():
    assert row_of("made_up") == OTHER


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", GRANTS)
def test_each_diagnosis_is_consistent(state, name):
    for reason, usable in itertools.product(REASONS, (False, True)):
        diagnosis = told(state, reason, name, usable)
        check_words(diagnosis, GRANTS[name])
        check_verdict(diagnosis, GRANTS[name])


def check_words(diagnosis, grant):
    text = diagnosis.text.lower()
    assert "{" not in diagnosis.sentence, text
    if not grant.needs_person:  # "log in" only if the grant has a login
        for words in ("token-proxy login", "log in", "logged in"):
            assert words not in text
    if "no token has been requested yet" in text or "not been used yet" in text:  # only if that is true
        assert diagnosis.reason == Reason.NOT_ASKED
    if not diagnosis.serves:  # without a token there is a cause and a next step
        assert diagnosis.sentence, diagnosis
        assert diagnosis.remedy, diagnosis


def check_verdict(diagnosis, grant):
    error = diagnosis.error(retry_after=7)
    assert error.diagnosis is diagnosis
    assert diagnosis.needs_person == (diagnosis.exit_code == 3) == isinstance(error, LoginRequired)
    assert isinstance(error, Misconfigured) == (diagnosis.verdict is Verdict.MISCONFIGURED)
    assert isinstance(error, TokenUnavailable) == (error.retry_after == 7)
    assert diagnosis.serves == (diagnosis.exit_code == 0) or (diagnosis.serves and diagnosis.needs_person)
    assert not (grant.renews_itself and diagnosis.needs_person)
    assert grant.needs_person or not diagnosis.can_log_in
    if diagnosis.needs_person:
        assert diagnosis.can_log_in == grant.needs_person


WRONG_PLACE = (
    "issuer_mismatch",
    "discovery",
    "no_token_endpoint",
    "unsafe_endpoint",
    "redirect",
    "dns",
    "tls",
)


@pytest.mark.parametrize("grant", GRANTS)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("code", [*WRONG_PLACE, "unreachable", "timeout", "store", "http_503", "not_json"])
def test_a_fault_of_another_cause_is_never_reported_as_a_wrong_secret(state, code, grant):
    text = told(state, code, grant).text
    assert "client_secret" not in text
    assert "client_id" not in text
    assert "does not accept this client" not in text


MUST_NAME = {
    "step_refused": ("credentials.crm",),
    "step_failed": ("credentials.crm.steps",),
    "step_redirect": ("credentials.crm.steps",),
    "step_value": ("credentials.crm.steps", "placeholder"),
    "step_token": ("credentials.crm.response.token",),
    "step_not_json": ("credentials.crm.steps",),
    "invalid_client": ("client_id", "client_secret", "client_auth", "basic_encoding"),
    "incorrect_client_credentials": ("client_id", "client_secret", "client_auth", "basic_encoding"),
    "invalid_scope": ("credentials.crm.scopes", "api, mail"),
    "unauthorized_client": ("not registered for the grant",),
    "unsupported_grant_type": ("register", "grant"),
    "issuer_mismatch": ("credentials.crm.issuer", "slash"),
    "unsafe_endpoint": ("credentials.crm.", "https"),
    "resource_mismatch": ("credentials.crm.mcp",),
    "mcp_unreachable": ("credentials.crm.mcp",),
    "mcp_no_authorization": ("credentials.crm.issuer",),
    "mcp_unsafe_issuer": ("credentials.crm.issuer", "https"),
    "no_registration": ("credentials.crm.client_id",),
    "registration_refused": ("credentials.crm.client_id",),
    "invalid_redirect_uri": ("server.public_url", "credentials.crm.client_id"),
    "no_pkce": ("S256", "credentials.crm.pkce"),
    "discovery": ("credentials.crm.issuer",),
    "redirect": ("the token endpoint redirects", "credentials.crm.issuer or token_endpoint"),
    "revocation_redirect": ("the revocation endpoint redirects", "set credentials.crm.revocation_endpoint"),
    "introspection_redirect": ("redirects to another", "set credentials.crm.introspection_endpoint"),
    "device_redirect": ("redirects to another", "set credentials.crm.device_authorization_endpoint"),
    "par_redirect": ("redirects to another", "set credentials.crm.pushed_authorization_request_endpoint"),
    "discovery_redirect": ("redirects to another", "set credentials.crm.issuer to the address"),
    "registration_redirect": ("redirects to another", "credentials.crm.client_id"),
    "no_revocation_endpoint": ("no revocation endpoint", "set credentials.crm.revocation_endpoint"),
    "revocation_refused": ("refuses to revoke", "credentials.crm.revocation_endpoint"),
    "consent_required": ("consent",),
    "unreachable": ("can't be reached",),
    "dns": ("can't be reached",),
    "tls": ("can't be reached",),
    "timeout": ("does not respond in time",),
    "connect_timeout": ("can't be reached",),
    "egress_proxy": ("can't be reached", "credentials.crm.proxy"),
    "store": ("token store can't be written",),
    "client_assertion": ("credentials.crm.client_assertion", "JWT"),
    "no_dpop": ("credentials.crm.dpop", "register"),
    "invalid_dpop_proof": ("DPoP", "clock"),
    "use_dpop_nonce": ("DPoP nonce",),
    "tls_files": ("credentials.crm.tls", "check"),
}


OF_HINT = {  # where the keys are others than those of the code alone
    ("invalid_client", "client_key"): ("client_id", "client_key_id", "assertion_audience"),
    ("invalid_client", "client_assertion"): ("client_id", "client_assertion", "platform", "audience"),
    ("invalid_client", "client_secret_jwt"): ("client_id", "client_secret", "assertion_audience"),
    ("invalid_client", "tls"): ("client_id", "tls.cert", "registered"),
}


@pytest.mark.parametrize("code", MUST_NAME)
def test_a_cause_names_its_subject(code):
    for grant in GRANTS:
        for state in STATES:
            text = told(state, code, grant).text
            assert all(word in text for word in MUST_NAME[code]), text
            assert f"({code}" in text
        explained = explain_failure(failure(code), "crm", GRANTS[grant], ("api", "mail"))
        assert all(word in explained for word in MUST_NAME[code]), explained


def test_the_grant_that_is_named_is_the_one_that_was_sent():
    assert "the grant refresh_token" in told("expired", "unauthorized_client", "authorization_code").text
    assert "the grant client_credentials" in told("absent", "unauthorized_client", "client_credentials").text


@pytest.mark.parametrize(
    ("state", "reason", "grant", "usable", "more", "text"),
    [
        ("valid", "", "authorization_code", True, {}, ""),
        (
            "absent",
            "no_login",
            "authorization_code",
            False,
            {},
            "nobody has logged in yet; run `token-proxy login crm --account alice`",
        ),
        (
            "login_required",
            "refused",
            "authorization_code",
            True,
            {"ends_at": NOW + 100},
            (
                "the authorization server refuses the refresh token; the access token is used until it "
                "expires at 08:01:40 UTC; run `token-proxy login crm --account alice`"
            ),
        ),
        (
            "login_required",
            "refused",
            "refresh_token",
            False,
            {},
            (
                "the authorization server refuses the refresh token; set credentials.crm.refresh_token to "
                "a new refresh token"
            ),
        ),
        (
            "absent",
            "unreachable",
            "client_credentials",
            False,
            {"failures": 22, "next_try_at": NOW + 12},
            (
                "there is no access token yet: the authorization server can't be reached (unreachable, "
                "22 failures in a row); if this persists, check that the server runs, and issuer or "
                "token_endpoint of credentials.crm; next try at 08:00:12 UTC"
            ),
        ),
        (
            "expired",
            "http_503",
            "authorization_code",
            False,
            {"failures": 1},
            (
                "the access token has expired, and there is no new one: the authorization server reports an "
                "internal error (http_503); if this persists, ask the server's operator; next try with the "
                "next request"
            ),
        ),
        (
            "absent",
            "not_asked",
            "client_credentials",
            False,
            {},
            "no token has been requested yet; nothing to do: the next request gets a token",
        ),
    ],
)
def test_a_few_in_full(state, reason, grant, usable, more, text):
    assert told(state, reason, grant, usable, **more).text == text


def test_a_login_without_a_refresh_token_says_when_it_ends_and_which_settings_bring_one():
    diagnosis = told("valid", "no_refresh_token", "authorization_code", usable=True, ends_at=NOW + 120)
    assert diagnosis.sentence == "the server gave no refresh token: the access token expires at 08:02:00 UTC"
    for setting in ("offline_access", 'prompt = "consent"', 'access_type = "offline"'):
        assert setting in diagnosis.remedy
    assert diagnosis.can_log_in
    assert not diagnosis.needs_person
    assert diagnosis.exit_code == 0
    ended = told("expired", "no_refresh_token", "authorization_code")
    assert ended.needs_person
    assert "offline_access" in ended.remedy


@pytest.mark.parametrize("at", [None, float("inf"), float("nan"), -1.0, 1e18])
def test_a_time_out_of_range_is_not_shown(at):
    assert (
        "did not state" in told("valid", "no_refresh_token", "authorization_code", True, ends_at=at).sentence
    )


def test_a_time_far_away_has_its_date():
    text = told("valid", "no_refresh_token", "authorization_code", True, ends_at=NOW + 30 * 86400).sentence
    assert text.endswith("at 2026-12-28 08:00 UTC")


def test_a_hint_says_more_of_a_code_and_not_something_else():
    for code, hint in HINTS:
        plain, hinted = (told("expired", code, "authorization_code", hint=each) for each in ("", hint))
        assert (hinted.sentence, hinted.verdict) == (plain.sentence, plain.verdict)
        assert hinted.remedy != plain.remedy
        assert "{" not in hinted.remedy
        named = OF_HINT.get((code, hint), MUST_NAME[code])
        assert all(word in hinted.text for word in named if word != "slash"), hinted.text
        explained = explain_failure(failure(code, hint), "crm", GRANTS["authorization_code"], ())
        assert hinted.remedy.partition("; next try")[0] in explained
    assert "slash" in told("expired", "issuer_mismatch", "authorization_code", hint="slash").text


def test_the_cause_of_a_failed_connection_is_told_to_all():
    cause = failure_causes.SELF_SIGNED
    error = AuthorizationServerError("transient", "tls", cause=cause)
    explained = explain_failure(error, "crm", GRANTS["authorization_code"], ())
    shown = told("expired", "tls", "authorization_code", cause=cause, failures=1)
    for text in (explained, shown.text):
        assert "(tls: certificate verify failed: self-signed certificate)" in text
    more = told("expired", "tls", "client_credentials", cause=cause, failures=3, failing_since=NOW - 60)
    assert "self-signed certificate, 3 failures in a row since 07:59:00 UTC)" in more.sentence


ALL_CAUSES = {each.code: each for each in vars(failure_causes).values() if isinstance(each, Cause)}


@pytest.mark.parametrize(("code", "cause"), OF_CAUSES)
def test_the_cause_of_a_failed_connection_has_a_next_step_of_its_own(code, cause):
    for grant in GRANTS:
        plain, precise = (
            told("expired", code, grant, cause=each) for each in (failure_causes.OTHER, ALL_CAUSES[cause])
        )
        assert precise.verdict == plain.verdict
        assert precise.remedy.partition("; next try")[0]
        assert "{" not in precise.remedy
        error = AuthorizationServerError("transient", code, cause=ALL_CAUSES[cause])
        assert precise.remedy.partition("; next try")[0] in explain_failure(error, "crm", GRANTS[grant], ())


NEXT_STEPS = [  # code, cause, what the next step names
    ("tls", failure_causes.SELF_SIGNED, "set credentials.crm.tls.ca"),
    ("tls", failure_causes.UNKNOWN_CA, "set credentials.crm.tls.ca"),
    ("tls", failure_causes.EXPIRED, "renew it"),
    ("tls", failure_causes.NOT_YET_VALID, "check the clock of this machine"),
    ("tls", failure_causes.WRONG_NAME, "check the host in issuer or token_endpoint of credentials.crm"),
    ("tls", failure_causes.CLIENT_CERTIFICATE_NEEDED, "set credentials.crm.tls.cert and tls.key"),
    ("dns", failure_causes.NO_SUCH_HOST, "check the host in issuer or token_endpoint of credentials.crm"),
    ("dns", failure_causes.LOOKUP_UNAVAILABLE, "name servers of this machine"),
    ("unreachable", failure_causes.REFUSED, "the port in issuer or token_endpoint of credentials.crm"),
]


@pytest.mark.parametrize(("code", "cause", "step"), NEXT_STEPS)
def test_what_to_do_depends_on_the_cause(code, cause, step):
    diagnosis = told("expired", code, "authorization_code", cause=cause)
    assert f"({code}: {cause.sentence})" in diagnosis.sentence
    assert step in diagnosis.remedy
    if cause in {failure_causes.EXPIRED, failure_causes.NOT_YET_VALID, failure_causes.WRONG_NAME}:
        assert "tls.ca" not in diagnosis.remedy  # a trusted authority is not what is missing
    described = told("expired", code, "request", cause=cause).remedy
    assert "issuer" not in described


OPENID = {"scopes": ("openid", "api")}
GOOGLE = {"issuer": "https://accounts.google.com", **OPENID}
ADVICE = [  # keys of the credential, what is advised
    (OPENID, 'add "offline_access" to scopes and prompt = "consent" to authorize_params of credentials.crm'),
    (
        {**OPENID, "authorize_params": {"prompt": "login consent"}},
        'add "offline_access" to scopes of credentials.crm',
    ),
    (
        {"scopes": ("offline_access", "api")},
        'add prompt = "consent" to authorize_params of credentials.crm',
    ),
    (
        {"scopes": ("offline_access",), "authorize_params": {"prompt": "consent"}},
        "allow this client refresh tokens (offline access) at the authorization server",
    ),
    (
        GOOGLE,
        'add access_type = "offline" and prompt = "consent" to authorize_params of credentials.crm',
    ),
    (
        {**GOOGLE, "authorize_params": {"access_type": "offline"}},
        'add prompt = "consent" to authorize_params of credentials.crm',
    ),
    (
        {**GOOGLE, "authorize_params": {"access_type": "offline", "prompt": "consent"}},
        "allow this client refresh tokens (offline access) at the authorization server",
    ),
    (
        {"authorize_params": {"scope": "openid,api", "prompt": ["login", "consent"]}},
        'add "offline_access" to authorize_params.scope of credentials.crm',
    ),
    ({"scopes": ("api",)}, f"{offline_access.GENERAL} of credentials.crm"),
    ({"scopes": ("api",), "grant": "device_code"}, 'add "offline_access" to scopes of credentials.crm'),
]


@pytest.mark.parametrize(("keys", "advice"), ADVICE)
def test_the_setting_that_brings_a_refresh_token_is_the_one_that_is_missing(keys, advice):
    said = offline_access.advice(credential(name="crm", **keys))
    assert said == advice
    diagnosis = told("valid", "no_refresh_token", "authorization_code", usable=True, offline=said)
    assert diagnosis.remedy.endswith(f"; to get a refresh token, first {advice}")


def test_refusals_have_their_code_and_their_time():
    once, often = Refused("invalid_grant", NOW - 60, 1), Refused("consent_required", NOW - 600, 3)
    assert told("login_required", "refused", "authorization_code", refused=once).sentence == (
        "the authorization server refuses the refresh token (invalid_grant, at 07:59:00 UTC)"
    )
    assert told("login_required", "refused_otherwise", "authorization_code", refused=often).sentence == (
        "the authorization server keeps refusing to refresh the token (consent_required, 3 times since "
        "07:50:00 UTC)"
    )
    usable = told("login_required", "refused", "refresh_token", usable=True, refused=once, ends_at=NOW + 60)
    assert "07:59:00 UTC); the access token is used until it expires at 08:01:00 UTC" in usable.sentence


@pytest.mark.parametrize("code", ["consent_required", "login_required", "account_selection_required"])
def test_where_the_server_wants_a_person_a_login_is_offered(code):
    diagnosis = told("expired", code, "authorization_code")
    assert (diagnosis.can_log_in, diagnosis.needs_person) == (True, False)
    assert "if this persists, run `token-proxy login crm --account alice`" in diagnosis.remedy
    for grant in ("refresh_token", "client_credentials"):
        assert not told("expired", code, grant).can_log_in
    assert told("expired", code, "client_credentials").remedy.startswith("nothing to do: next try")


def test_a_single_failure_has_its_time_too():
    diagnosis = told(
        "expired", "http_503", "authorization_code", failures=1, failing_since=NOW - 5, next_try_at=NOW + 2
    )
    assert diagnosis.sentence.endswith("(http_503)")
    assert diagnosis.remedy.endswith("; next try at 08:00:02 UTC, the first failed at 07:59:55 UTC")


def test_a_failed_login_is_told_with_its_reason_wherever_a_login_would_help():
    failed = FailedLogin(
        NOW - 30, "invalid_client", "the server does not accept this client; check client_id"
    )
    said = "; the last login failed at 07:59:30 UTC: the server does not accept this client; check client_id"
    for state, reason in (
        ("absent", "no_login"),
        ("valid", "no_refresh_token"),
        ("expired", "no_refresh_token"),
    ):
        diagnosis = told(state, reason, "authorization_code", usable=state == "valid", failed_login=failed)
        assert said in diagnosis.sentence
        assert "run `token-proxy login crm --account alice`" in diagnosis.remedy
    assert told("valid", "", "authorization_code", usable=True, failed_login=failed).text == ""


@pytest.mark.parametrize("grant", GRANTS)
def test_an_upstream_that_refuses_new_tokens_is_told_while_they_are_attached(grant):
    last = Unauthorized(NOW - 30, "up")
    diagnosis = told("valid", "upstream_unauthorized", grant, usable=True, unauthorized=last)
    assert "the upstream of route up refuses" in diagnosis.sentence
    assert "401" in diagnosis.sentence
    assert "07:59:30 UTC" in diagnosis.sentence
    assert "credentials.crm" in diagnosis.remedy
    assert diagnosis.serves


def test_an_unknown_hint_changes_nothing():
    plain, hinted = (told("expired", "invalid_client", "refresh_token", hint=hint) for hint in ("", "new"))
    assert plain == hinted


def test_a_login_is_offered_if_all_accounts_of_a_client_are_refused_alike():
    diagnosis = told("misconfigured", "refused_alike", "authorization_code")
    assert (diagnosis.can_log_in, diagnosis.needs_person, diagnosis.exit_code) == (True, False, 1)


@pytest.mark.parametrize("state", STATES)
def test_while_a_refresh_can_be_tried_nobody_must_act(state):
    """Account.needs_person assumes this, to skip the table for healthy accounts."""
    quick = [*CAUSES, Reason.NOT_ASKED, Reason.NONE, Reason.SCOPES_NOT_GRANTED, Reason.UNREADABLE]
    for grant, reason in itertools.product(GRANTS, quick):
        is_stored = state == "login_required" and reason not in CAUSES  # then the record is not "valid"
        assert is_stored or not told(state, reason, grant).needs_person

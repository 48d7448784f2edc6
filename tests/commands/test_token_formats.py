"""`token --format`: what each format prints, and what the asking program may say."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli import main
from proxy.commands.token_formats import EXEC_INFO, FORMATS, CannotPrint, Printed, read_git, variable_of
from proxy.config.attach import AttachBasic, AttachField, AttachQuery
from proxy.config.credential import Credential
from proxy.config.route_fields import VALUE
from proxy.secret import Secret
from proxy.tokens.attachment import Attachment

EXPIRES = 1_764_288_000
BETA = "client.authentication.k8s.io/v1beta1"
V1 = "client.authentication.k8s.io/v1"


def printed(form, *attach, token="t0ken", expires_at=EXPIRES, git=None, environ=None, name="crm-eu"):
    credential = Credential(grant="static", value=Secret(token), attach=attach or ()) if attach else None
    credential = credential or Credential(grant="static", value=Secret(token))
    credential = credential.model_copy(update={"name": name})
    document = {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": None if expires_at is None else 60,
        "expires_at": expires_at,
    }
    attachment = Attachment(Secret(token), credential.attach)
    return FORMATS[form](Printed(credential, attachment, document, git or {}, environ or {}))


def test_the_command_knows_the_same_formats():
    (option,) = [each for each in main.commands["token"].params if each.name == "form"]
    assert list(option.type.choices) == list(FORMATS)


def test_plain_and_json():
    assert printed("plain") == "t0ken"
    assert json.loads(printed("json")) == {
        "access_token": "t0ken",
        "token_type": "Bearer",
        "expires_in": 60,
        "expires_at": EXPIRES,
    }


def test_header_is_what_is_attached():
    assert printed("header") == "Authorization: Bearer t0ken"
    assert printed("header", AttachField(header="X-Api-Key", scheme="")) == "X-Api-Key: t0ken"
    assert printed("header", AttachBasic(basic_user="x")) == "Authorization: Basic eDp0MGtlbg=="
    several = AttachField(), AttachField(header="Two", scheme="")
    assert printed("header", *several) == "Authorization: Bearer t0ken\nTwo: t0ken"
    with pytest.raises(CannotPrint, match=r"credentials\.crm-eu\.attach puts the token in no header field"):
        printed("header", AttachQuery(query="key"))


def test_env_is_a_line_for_shells_and_env_files():
    assert printed("env") == "CRM_EU_ACCESS_TOKEN=t0ken"
    assert printed("env", token="a$b c") == "CRM_EU_ACCESS_TOKEN='a$b c'"
    assert variable_of("0-crm") == "_0_CRM_ACCESS_TOKEN"


@given(st.from_regex(VALUE, fullmatch=True))
def test_env_leaves_no_way_into_a_shell(token):
    assert shlex.split(printed("env", token=token)) == [f"CRM_EU_ACCESS_TOKEN={token}"]


HTTPS = {"protocol": "https", "host": "git.example"}
GIT = [  # attach, what git says, user
    ((), HTTPS, "x-access-token"),
    ((), {**HTTPS, "username": "oauth2"}, "oauth2"),
    ((AttachBasic(basic_user="x-token-auth"),), HTTPS, "x-token-auth"),
    ((), {"protocol": "http", "host": "127.0.0.1:8000"}, "x-access-token"),
    ((), {"protocol": "http", "host": "[::1]:8000"}, "x-access-token"),
    ((), {"protocol": "http", "host": "localhost"}, "x-access-token"),
    ((), {}, "x-access-token"),
]


@pytest.mark.parametrize(("attach", "said", "user"), GIT)
def test_git_gets_a_user_a_password_and_its_end(attach, said, user):
    expected = f"username={user}\npassword=t0ken\npassword_expiry_utc={EXPIRES}"
    assert printed("git", *attach, git=said) == expected


def test_git_gets_no_end_where_none_is_known():
    assert printed("git", git=HTTPS, expires_at=None) == "username=x-access-token\npassword=t0ken"


@pytest.mark.parametrize("host", ["git.example", "10.0.0.1", "127.0.0.1.example", "localhost.example:80", ""])
def test_git_gets_nothing_to_send_without_tls(host):
    with pytest.raises(CannotPrint, match="without TLS: expected https"):
        printed("git", git={"protocol": "http", "host": host})


def test_what_git_says_is_read_up_to_an_empty_line():
    said = "capability[]=authtype\nprotocol=https\nhost=a=b\nodd\nhost=c\n\npassword=x\n"
    assert read_git(said) == {"capability[]": "authtype", "protocol": "https", "host": "c"}
    assert read_git("") == {}


def exec_info(version):
    return {EXEC_INFO: json.dumps({"kind": "ExecCredential", "apiVersion": version, "spec": {}})}


@pytest.mark.parametrize(("environ", "version"), [({}, V1), (exec_info(V1), V1), (exec_info(BETA), BETA)])
def test_kubectl_gets_the_version_that_it_expects(environ, version):
    document = json.loads(printed("exec-credential", environ=environ))
    assert document == {
        "apiVersion": version,
        "kind": "ExecCredential",
        "status": {"token": "t0ken", "expirationTimestamp": "2025-11-28T00:00:00Z"},
    }


def test_kubectl_gets_no_end_where_none_is_known():
    document = json.loads(printed("exec-credential", expires_at=None))
    assert document["status"] == {"token": "t0ken"}


@pytest.mark.parametrize("info", ["x", "[]", "{}", "null", "5", "[" * 100_000])
def test_what_kubectl_never_says_is_refused(info):
    with pytest.raises(CannotPrint, match="is not what kubectl sets"):
        printed("exec-credential", environ={EXEC_INFO: info})


def test_a_version_that_is_not_known_is_refused():
    with pytest.raises(CannotPrint, match=f"expected {V1} or {BETA}"):
        printed("exec-credential", environ=exec_info("client.authentication.k8s.io/v1alpha1"))
    with pytest.raises(CannotPrint):
        printed("exec-credential", environ=exec_info("v1"))

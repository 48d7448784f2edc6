"""The output of `status`, from made-up documents: on terminals of all widths, and elsewhere."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands import terminal
from proxy.commands.status_table import Selection, Shown, sheet, signature
from proxy.commands.terminal import rendered
from tests.observe import entries
from tests.observe.entries import NOW

URL = "http://127.0.0.1:8081/login/crm/default"
ESCAPES = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;[^;\x1b]*;([^\x1b]*)\x1b\\")
EVERYTHING = Selection()


class Stream(io.StringIO):
    def __init__(self, *, is_terminal, encoding="utf-8"):
        super().__init__()
        self._is_terminal = is_terminal
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self._is_terminal


PIPE = Stream(is_terminal=False)
TERMINAL = Stream(is_terminal=True)


def entry(**changed):
    times = {"expires_at": NOW + 250, "refresh_due_at": NOW + 190, "refresh_expires_at": NOW + 31 * 86400}
    return entries.entry(**{**times, **changed})


DEAD = entry(
    state="login_required",
    owner="alice@example.com",
    expires_at=NOW - 60,
    refresh_due_at=None,
    refresh_expires_at=None,
    next_try_at=NOW + 30,
    reason="the authorization server refuses the refresh token (invalid_grant)",
    remedy="run `token-proxy login crm`",
    needs_person=True,
    serves=False,
    needs_attention=True,
    login_url=URL,
)


def status(*entries, **changes):
    counts = {}
    for each in entries:
        states = counts.setdefault(each["credential"], {})
        states[each["state"]] = states.get(each["state"], 0) + 1
    return {
        "version": 1,
        "now": NOW,
        "ready": True,
        "tokens": list(entries),
        "counts": counts,
        "attention": sum(each["needs_attention"] for each in entries),
        "joinable": [],
        "next": None,
        **changes,
    }


def text(found, stream=PIPE, selection=EVERYTHING, server=None, started_at=None):
    return rendered(sheet(Shown(found, server, started_at), selection, stream), stream)


@pytest.fixture
def at_terminal(monkeypatch):
    def set_up(columns=200, **environ):
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), **environ}.items():
            monkeypatch.setenv(name, value)

    return set_up


def without_escapes(shown):
    return ESCAPES.sub("", shown)


# -- what is shown


def test_a_row_has_all_times_the_owner_and_the_routes():
    _, _, head, row, *_ = text(status(DEAD)).splitlines()
    cells = [re.split(r" {2,}", each) for each in (head, row)]
    assert dict(zip(*cells, strict=True)) == {
        "CREDENTIAL": "crm",
        "ACCOUNT": "default",
        "STATE": "login required",
        "EXPIRES": "1 min ago",
        "REFRESH TOKEN": "–",  # noqa: RUF001
        "NEXT TRY": "in 30 s",
        "OWNER": "alice@example.com",
        "ROUTES": "crm",
    }
    healthy = text(status(entry())).splitlines()[3]
    assert re.split(r" {2,}", healthy)[3:6] == ["in 4 min", "in 31 d", "in 3 min"]


def test_below_the_table_is_a_line_with_the_command_and_the_url_for_what_needs_something():
    lines = text(status(DEAD, entry(account="bob"))).splitlines()
    assert lines[-1] == (
        "crm/default: the authorization server refuses the refresh token (invalid_grant); "
        f"run `token-proxy login crm`, or open {URL}"
    )
    assert len(lines) == 7


def test_what_is_said_of_accounts_that_need_nothing_is_said_once():
    alike = [
        entry(account=f"user{number}", reason="expired", remedy="nothing to do") for number in range(500)
    ]
    lines = text(status(DEAD, *alike, entry(account="bob", reason="odd"))).splitlines()
    assert lines[-3].startswith("crm/default: ")
    assert lines[-2:] == ["crm/user0 and 499 more: expired; nothing to do", "crm/bob: odd"]


def test_a_refresh_whose_time_has_come_is_due():
    row = text(status(entry(refresh_due_at=NOW - 60))).splitlines()[3]
    assert re.split(r" {2,}", row)[5] == "due"


def test_the_first_line_says_whether_a_server_runs():
    assert text(status(entry())).startswith("no server runs here: this is what the store holds\n")
    running = text(status(entry()), server="http://127.0.0.1:8081", started_at=NOW - 3 * 3600 - 5)
    assert running.startswith("from the server at http://127.0.0.1:8081, up 3 h\n")
    unknown = text(status(entry()), server="http://127.0.0.1:8081")
    assert unknown.startswith("from the server at http://127.0.0.1:8081\n")
    early = text(status(entry()), server="http://127.0.0.1:8081", started_at=NOW + 5)
    assert "up 1 s\n" in early, "two clocks need not agree"


def test_a_credential_that_people_can_join_says_how():
    found = status(entry(), counts={"crm": {"valid": 1}, "team": {}}, joinable=["team"])
    *_, row, _, note = text(found).splitlines()
    assert row.split()[:3] == ["team", "-", "absent"]
    assert note == "team: no accounts yet; run `token-proxy login team --account NAME`"
    assert "team" not in text(found, selection=Selection(state="valid"))
    assert "team" not in text(found, selection=Selection(credential="crm"))
    assert "team" in text(found, selection=Selection(credential="team"))


def test_without_credentials_and_without_matches_that_is_said():
    assert text(status()).endswith("\nthe configuration has no credentials yet")
    nothing = status(counts={"crm": {"valid": 1}})
    assert text(nothing, selection=Selection(text="x")).endswith("\nno account fits")


@pytest.mark.parametrize(
    ("selection", "ending"),
    [
        (EVERYTHING, "… and 19 999 more: token-proxy status --state attention"),
        (Selection(credential="crm"), "… and 19 999 more: token-proxy status --state attention"),
        (Selection(text="bob"), "… and more: token-proxy status --state attention"),
        (Selection(state="attention"), "… and 4 more: token-proxy status -q SEARCH"),
        (Selection(state="valid"), "… and 19 994 more: token-proxy status -q SEARCH"),
        (Selection(state="attention", credential="crm"), "… and more: token-proxy status -q SEARCH"),
    ],
)
def test_more_accounts_than_are_shown_are_counted_with_the_way_to_them(selection, ending):
    found = status(
        DEAD,
        counts={"crm": {"valid": 19_995, "login_required": 5}},
        attention=5,
        next="attention:crm/default",
    )
    assert text(found, selection=selection).splitlines()[-1] == ending


def test_where_all_that_need_attention_are_shown_the_way_is_to_search():
    found = status(DEAD, entry(), counts={"crm": {"valid": 500, "login_required": 1}}, next="crm/default")
    assert text(found).splitlines()[-1] == "… and 499 more: token-proxy status -q SEARCH"


def test_a_change_is_seen_and_passing_time_is_none():
    one = Shown(status(entry()), None, None)
    later = Shown(status(entry(), now=NOW + 9), None, None)
    assert signature(one) == signature(later)
    for changed in (status(DEAD), status(entry(owner="x")), status(entry(), entry(account="b"))):
        assert signature(Shown(changed, None, None)) != signature(one)
    assert signature(Shown(status(entry()), "http://127.0.0.1", None)) != signature(one)


# -- where it is shown


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_on_a_narrow_terminal_nothing_is_lost(at_terminal, columns, encoding):
    at_terminal(columns)
    long = entry(
        credential="c" * 63,
        account="a" * 128,
        owner="somebody.with.a.long.name@example.com",
        routes=[f"route-{number}" for number in range(30)],
        reason="r" * 300,
        remedy="run `something`",
        needs_attention=True,
    )
    shown = text(status(DEAD, long, entry()), Stream(is_terminal=True, encoding=encoding))
    flat = re.sub(r"\s", "", without_escapes(shown))
    for wanted in (
        long["credential"],
        long["account"],
        long["owner"],
        "".join(f"route-{number}," for number in range(29)),
        f"{DEAD['reason']}; {DEAD['remedy']}, or open {URL}",
        long["reason"],
        "in 31 d",
        "login required",
    ):
        assert re.sub(r"\s", "", wanted) in flat, wanted


def test_what_fits_is_a_table_without_empty_columns(at_terminal):
    at_terminal(80)
    _, _, head, row, failing, *_ = without_escapes(
        text(status(entry(), entry(state="login_required")), TERMINAL)
    ).splitlines()
    assert re.split(r" {2,}", head) == [
        *("CREDENTIAL", "ACCOUNT", "STATE", "EXPIRES", "REFRESH TOKEN", "NEXT TRY", "ROUTES")
    ]
    assert row.startswith("crm         default  ✓ valid")
    assert failing.startswith("crm         default  ✗ login required  in 4 min  in 31 d")


def test_the_last_columns_that_do_not_fit_are_below_each_row(at_terminal):
    at_terminal(80)
    _, _, head, row, below, *_ = without_escapes(text(status(DEAD, entry()), TERMINAL)).splitlines()
    assert head.split() == ["CREDENTIAL", "ACCOUNT", "STATE", "EXPIRES", "REFRESH", "TOKEN", "NEXT", "TRY"]
    assert head.index("NEXT TRY") == row.index("in 30 s")
    assert below == "    owner alice@example.com   routes crm"


def test_where_not_even_the_state_fits_each_cell_has_a_line(at_terminal):
    at_terminal(30)
    lines = without_escapes(text(status(DEAD), TERMINAL)).splitlines()
    assert lines[2:5] == [
        "crm  default  ✗ login required",
        "    access token expires 1 min ago",
        "    next refresh in 30 s",
    ]


def test_the_command_to_copy_is_not_broken_into_lines(at_terminal):
    at_terminal(40)
    assert URL in without_escapes(text(status(DEAD), TERMINAL))


@pytest.mark.parametrize(
    ("state", "symbol", "plain"),
    [
        ("valid", "✓", "+"),
        ("stale", "↻", "~"),
        ("expired", "!", "!"),
        ("login_required", "✗", "x"),
        ("misconfigured", "✗", "x"),
        ("absent", "○", "-"),
    ],
)
def test_a_state_has_a_symbol_beside_its_colour(at_terminal, state, symbol, plain):
    at_terminal()
    found, words = status(entry(state=state)), state.replace("_", " ")
    assert f"{symbol} {words}" in without_escapes(text(found, TERMINAL))
    latin = text(found, Stream(is_terminal=True, encoding="ascii"))
    assert f"{plain} {words}" in without_escapes(latin)


def test_a_pipe_gets_the_same_columns_and_no_escapes_whatever_the_environment_says(at_terminal):
    plain = text(status(DEAD, entry()))
    at_terminal(40, FORCE_COLOR="1", TTY_COMPATIBLE="1", COLORTERM="truecolor")
    assert text(status(DEAD, entry())) == plain
    assert "\x1b" not in plain
    head, first, second = plain.splitlines()[2:5]
    assert head.index("STATE") == first.index("login required") == second.index("valid")
    assert head.index("ROUTES") == first.rindex("crm") == second.rindex("crm")


@pytest.mark.parametrize(
    ("environ", "colours", "links"),
    [
        ({}, True, True),
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, True),
    ],
)
def test_colours_and_links_are_for_terminals_that_want_them(at_terminal, environ, colours, links):
    at_terminal(**environ)
    shown = text(status(DEAD), TERMINAL, server="http://127.0.0.1:8081")
    assert ("\x1b[" in shown) == colours
    found = [url for url in ESCAPES.findall(shown) if url]
    assert found == (["http://127.0.0.1:8081", URL] if links else [])


# -- hostile text

HOSTILE = st.text(max_size=20) | st.sampled_from(
    [
        "\x1b[2J",
        "\x1b]8;;http://evil\x07",
        "\x9b31m",
        "a\rb",
        "a\nb",
        "\x07",
        "\u202e",
        "[red]x[/red]",
        ":boom:",
    ]
)


@given(
    texts=st.fixed_dictionaries(
        dict.fromkeys(("credential", "account", "owner", "state", "reason", "remedy", "login_url"), HOSTILE)
    ),
    routes=st.lists(HOSTILE, max_size=3),
    columns=st.sampled_from(["40", "200"]),
    is_terminal=st.booleans(),
)
def test_no_text_reaches_a_terminal_as_a_control_character(texts, routes, columns, is_terminal):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm-256color")
        patch.setenv("COLUMNS", columns)
        patch.delenv("NO_COLOR", raising=False)
        stream = Stream(is_terminal=is_terminal)
        shown = without_escapes(
            text(status(entry(**texts, routes=routes)), stream, server=texts["login_url"])
        )
    assert [each for each in shown if not (each.isprintable() or each == "\n")] == []


def test_markup_is_shown_as_it_is():
    assert "[red]x[/red] :boom:" in text(status(entry(owner="[red]x[/red] :boom:")))


def test_only_web_addresses_become_links():
    for url in ("file:///etc/passwd", "javascript:x", "http://x y", "http://x\x07"):
        assert terminal.link(url) == url

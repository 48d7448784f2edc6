"""The status page, from a document: headline, filters, paging, and hostile text in every field."""

import re
from html.parser import HTMLParser
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.admin import pages
from proxy.admin.sessions import WaysIn
from proxy.admin.status_page import LIMIT, Footer, Page, link, query_string, read_query
from proxy.observe.query import Query
from tests.observe import entries
from tests.observe.entries import NOW

FOOTER = Footer("http://127.0.0.1:8081", "1.2.3", "/etc/token-proxy/config.toml")


def entry(credential="crm", account="default", **changed):
    usual = {
        "owner": "alice@example.com",
        "generation": 3,
        "last_refresh": {"at": NOW - 60, "outcome": "success", "error": None},
        "actions": ["refresh", "logout"],
    }
    return entries.entry(credential=credential, account=account, **{**usual, **changed})


FAILING = {
    "state": "expired",
    "needs_attention": True,
    "expires_at": NOW - 540,
    "failures": 21,
    "failing_since": NOW - 1200,
    "next_try_at": NOW + 12,
    "last_refresh": {"at": NOW - 18, "outcome": "transient", "error": "http_503"},
    "reason": "the server is down (http_503, 21 failures in a row)",
    "actions": ["refresh", "logout"],
}


def status(*entries, counts=None, joinable=(), attention=None, following=None):
    if counts is None:
        counts = {}
        for each in entries:
            states = counts.setdefault(each["credential"], {})
            states[each["state"]] = states.get(each["state"], 0) + 1
    if attention is None:
        attention = sum(each["needs_attention"] for each in entries)
    return {
        "version": 1,
        "now": NOW,
        "ready": True,
        "tokens": list(entries),
        "counts": counts,
        "joinable": list(joinable),
        "attention": attention,
        "next": following,
    }


def page(*entries, view="", **changed):
    return Page(status(*entries, **changed), read_query(dict(parse_qsl(view))), FOOTER)


def shown(made, ways_in=None):
    return pages.status_page(made, "c" * 64, feed="/events?mark=0", ways_in=ways_in)


@pytest.mark.parametrize(
    ("counts", "attention", "headline", "title"),
    [
        ({}, 0, "No credentials yet", "Accounts"),
        ({"crm": {}}, 0, "No accounts yet", "Accounts"),
        ({"crm": {"valid": 1}}, 0, "The account works", "Accounts"),
        ({"crm": {"valid": 7}}, 0, "All 7 accounts work", "Accounts"),
        ({"crm": {"valid": 6, "expired": 1}}, 1, "1 of 7 accounts needs attention", "(1) Accounts"),
        ({"crm": {"valid": 3}, "hr": {"expired": 4}}, 4, "4 of 7 accounts need attention", "(4) Accounts"),
        ({"crm": {"expired": 1}}, 1, "1 of 1 account needs attention", "(1) Accounts"),
    ],
)
def test_the_headline_and_the_title_say_how_many_need_attention(counts, attention, headline, title):
    made = page(counts=counts, attention=attention)
    assert (made.headline, made.title) == (headline, title)
    assert f">{headline}</h1>" in shown(made)
    assert f"<title>{title} ·" in shown(made)


def test_those_that_need_attention_are_before_the_working_ones():
    html = shown(page(entry("hr", **FAILING), entry("crm")))
    assert (
        html.index('id="row-hr/default"') < html.index(">Working</h2>") < html.index('id="row-crm/default"')
    )
    failing = html[html.index('id="row-hr/default"') : html.index(">Working</h2>")]
    for said in (
        "The server is down (http_503, 21 failures in a row).",
        "expired 9 min ago",
        "next try <time",
        "in 12 s",
        "failed <time",
        "(http_503)",
        "refresh token ends <time",
        "in 3 d",
        "alice@example.com",
        ">Try now<",
    ):
        assert said in failing, said


def test_a_bar_shows_the_share_of_the_life_that_is_left():
    html = shown(page(entry(issued_at=NOW - 100, expires_at=NOW + 300)))
    assert '<rect width="75.0" height="4"/>' in html
    for odd in (
        {"expires_at": None},
        {"issued_at": None},
        {"issued_at": NOW + 5, "expires_at": NOW},
        {"expires_at": NOW - 1},
    ):
        assert "<rect" not in shown(page(entry(**odd)))


@pytest.mark.parametrize(
    ("changed", "who"),
    [
        ({}, "alice@example.com"),
        ({"owner": None}, "authorization code"),
        ({"owner": None, "state": "absent", "actions": ["login"]}, "nobody yet"),
        (
            {"owner": None, "grant": "client_credentials", "state": "absent", "actions": []},
            "client credentials",
        ),
    ],
)
def test_a_row_says_whose_it_is(changed, who):
    assert f'<div class="sub"><bdi>{who}</bdi></div>' in shown(page(entry(**changed)))


def test_each_count_is_a_link_that_filters():
    made = page(
        counts={"crm": {"valid": 3, "absent": 1}, "hr": {"login_required": 2}},
        view="q=a+b&state=valid&after=crm/x",
    )
    chips = [(chip.number, chip.word, chip.url, chip.is_current) for chip in made.chips]
    assert chips == [
        (3, "valid", "/?q=a+b&state=valid", True),
        (2, "login required", "/?q=a+b&state=login_required", False),
        (1, "no tokens yet", "/?q=a+b&state=absent", False),
    ]
    assert '<a href="/?q=a+b&amp;state=valid" aria-current="true">' in shown(made)
    attention = page(entry(**FAILING), view="state=attention")
    assert attention.chips[0] == (1, "need attention", "/?state=attention", True)


def test_a_filter_is_said_and_can_be_left():
    html = shown(page(entry(), view="q=<crm>&state=valid&credential=crm"))
    assert "Only accounts whose name has “&lt;crm&gt;”, of crm, in the state “valid”." in html
    assert '<a href="/">Show all</a>' in html
    assert 'name="q" value="&lt;crm&gt;"' in html
    assert '<input type="hidden" name="state" value="valid">' in html
    assert "No accounts that need attention." in shown(page(counts={"crm": {}}, view="state=attention"))


def test_pages_have_a_next_and_a_first():
    assert "paging" not in shown(page(entry()))
    html = shown(page(entry(), following="crm/b@x+y", view="q=c&after=attention:crm/a"))
    assert '<a href="/?q=c" rel="first">First page</a>' in html
    assert '<a href="/?q=c&amp;after=crm%2Fb%40x%2By" rel="next">Next page</a>' in html
    assert 'href="/api/status?q=c&amp;after=attention%3Acrm%2Fa">JSON' in html


def test_credentials_that_can_be_joined_have_a_field_also_without_accounts():
    made = page(counts={"team": {}, "crm": {"valid": 2}}, joinable=["team", "crm"])
    html = shown(made)
    assert made.headline == "All 2 accounts work"
    for name, count in (("team", "No accounts yet."), ("crm", "2 accounts.")):
        row = html[html.index(f'id="join-{name}"') :].partition("</tr>")[0]
        assert count in row
        assert f'action="/login/{name}"' in row
        assert f'aria-label="Name of a new account of {name}"' in row
    assert 'id="join-' not in shown(page(counts={"team": {}}, joinable=["team"], view="state=valid"))


def test_a_visitor_without_a_session_has_no_buttons_and_is_told_how_to_get_one():
    html = shown(page(entry(), entry("hr", **FAILING)), WaysIn(True, ("Run `token-proxy open`.",)))
    assert "<button>Search" in html
    assert re.findall('action="/(refresh|logout)', html) == []
    assert "/logout/" not in html
    assert "Sign in with the admin key." in html


@given(st.dictionaries(st.sampled_from(["q", "state", "credential", "after", "limit", "x"]), st.text()))
@example({"q": "a/b", "state": "attention", "after": "attention:crm/x@y", "limit": "7"})
def test_any_query_makes_a_link_that_means_the_same(fields):
    query = read_query(fields)
    assert read_query(dict(parse_qsl(query_string(query)))) == query
    made = link("/", query)
    assert made == "/" or made.startswith("/?")
    assert not set(made) & set(' \r\n"<>\\')
    assert query.limit <= 500


def test_a_page_has_a_hundred_accounts_unless_it_is_asked_for_others():
    assert (read_query({}).limit, read_query({"limit": "7"}).limit) == (LIMIT, 7)
    assert query_string(read_query({"limit": "7"})) == "limit=7"
    assert query_string(read_query({"limit": "501"})) == ""


class Tags(HTMLParser):
    """The start tags with their attributes, without the texts."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag != "code":  # what is between backticks
            self.found.append((tag, sorted(name for name, _ in attrs)))


HOSTILE = st.text(alphabet=st.sampled_from("<>&\"' /=`{}%\u202e\x00\n\\alert"), max_size=40)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_hostile_text_in_any_field_makes_no_element_and_no_attribute(owner, reason, routes, error):
    def made(owner, reason, routes, error):
        last = {"at": NOW, "outcome": "transient", "error": error}
        changed = {
            "owner": owner,
            "reason": reason,
            "remedy": reason,
            "routes": [routes],
            "last_refresh": last,
        }
        query = Query(text=owner, credential=reason)  # as it can't come from a URL
        return Tags(shown(Page(status(entry(**{**FAILING, **changed})), query, FOOTER))).found

    assert made(owner or "x", reason or "x", routes, error) == made("x", "x", "x", "x")


@pytest.mark.parametrize("at", [float("inf"), -1.0, 1e15, 0.0])
def test_odd_times_are_shown_without_an_error(at):
    assert "<time" in shown(page(entry(expires_at=at, refresh_expires_at=at, next_try_at=at)))

"""README.md: what a stranger must find in it, in this order; and nothing that is not true."""

import re

from tests.docs.pages import DOCS, PAGES, REPOSITORY, blocks

README = REPOSITORY / "README.md"
TEXT = README.read_text()
SECTIONS = [
    *("Install", "Try it", "Use it", "Recipes", "When something is wrong", "Limits"),
    *("Compared with others", "How fast", "Contributing"),
]
MOST_LINES = 150
RATIOS = re.compile(
    r"one core does (?P<nginx>[\d.]+) of nginx's requests and (?P<envoy>[\d.]+)\s+times Envoy's; with\s+"
    r"1 000 callers at once (?P<nginx_many>[\d.]+) and (?P<envoy_many>[\d.]+)\."
)


def test_the_first_five_words_say_oauth():
    _, first, *_ = TEXT.split("\n\n")
    assert "OAuth" in first.split()[:5]


def test_the_sections_are_in_the_order_in_which_they_are_needed():
    assert re.findall(r"^## (.+)$", TEXT, re.MULTILINE) == SECTIONS
    assert len(TEXT.splitlines()) <= MOST_LINES


def test_the_first_commands_need_no_setup():
    first = next(each.text for each in blocks(README) if each.language == "sh")
    assert [line.split("  ")[0] for line in first.splitlines()] == ["make demo", "make test"]


def test_the_page_is_shown():
    for name in ("status.png", "status-phone.png"):
        assert f"(docs/images/{name})" in TEXT
        assert (DOCS / "images" / name).read_bytes().startswith(b"\x89PNG")


def test_the_ratios_are_those_of_the_last_measurement():
    measured = {
        name: (nginx, envoy)
        for name, nginx, envoy in re.findall(
            r"^\| `(\w+)` \|[^|]+\| ([\d.]+) \| ([\d.]+) \|", (DOCS / "speed.md").read_text(), re.MULTILINE
        )
    }
    told = RATIOS.search(TEXT)
    assert told is not None
    assert (told["nginx"], told["envoy"]) == measured["real"]
    assert (told["nginx_many"], told["envoy_many"]) == measured["many"]


def test_nothing_is_installed_from_pypi_before_it_is_there():
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            assert not re.search(r"(?:pip|pipx|tool) install\s+['\"]?token-proxy", page.read_text()), page

"""A path that `allow` permits is permitted in what real frameworks make of it.

Each reader is a framework's own way from a target to the path that its application sees. That path is judged
by naive_policy, decoded and without parameters.

Not guarded against: readers that parse the path as a URL once more after decoding it, or that take "//" at
its beginning for the start of an authority: to the contract it is an empty segment. Nor does `deny` know
every reader: it lists what its author thought of.
"""

from __future__ import annotations

import http.server
import json
import random
import subprocess
from urllib.parse import unquote, urlsplit

import pytest
import yarl
from django.core.handlers.wsgi import get_path_info

from proxy.http.malformed import MalformedRequest
from proxy.http.policy import Policy, read_path
from proxy.http.target import read_target
from tests.servers.programs import find

from . import naive_policy

TARGETS = 3000
BORDERS = ["/"] * 8 + ["//", ";x/", ";/", "?", "#", "", ":", "@"]
SEGMENTS = ["a", "b", "m", "ab", "A", "x.k", ".k", "a;b", "a?b", "a#b", "é", "a\n", "\ta", "%", ""]
PATTERNS = [
    "/m/**",
    "/m/*",
    "/*/b",
    "/**/b",
    "/a",
    "/a/**",
    "/*.k",
    "/**/*.k",
    "/a*/b",
    "/*/*/b",
    "/m",
    "/**",
]
NODE = """
const orNull = (read) => { try { return read(); } catch { return null; } };
const parsed = (text) => new URL(text, "http://h").pathname;
const readers = [
    (target) => decodeURIComponent(parsed(target)),
    (target) => parsed(decodeURIComponent(parsed(target))),
    (target) => target.split("?")[0].split("/").map(decodeURIComponent),
];
const targets = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(targets.map((target) => readers.map((read) => orNull(() => read(target))))));
"""


def encoded(rng, part):
    """Each character once, twice, thrice or not at all."""
    return "".join(
        character
        if (depth := rng.choice((0, 0, 0, 0, 1, 1, 2, 3))) == 0 and character not in "?#é\n\t%"
        else "".join(
            "%" + "25" * max(depth - 1, 0) + rng.choice((f"{byte:02x}", f"{byte:02X}"))
            for byte in character.encode()
        )
        for character in part
    )


def made_targets():
    rng = random.Random(11)
    while True:
        parts = [rng.choice(choices) for _ in range(rng.randint(1, 4)) for choices in (BORDERS, SEGMENTS)]
        target = "/" + "".join(encoded(rng, part) for part in parts)
        try:
            path, authority = read_target(target.encode("ascii"))
        except MalformedRequest:
            continue
        if authority is None:
            yield path.decode("ascii")


def without_parameters(target):
    """As servlets do: parameters go first, then the rest is decoded once."""
    return [unquote(piece.partition(";")[0]) for piece in target.split("/")]


def static_files(target):
    handler = http.server.SimpleHTTPRequestHandler.__new__(http.server.SimpleHTTPRequestHandler)
    handler.directory = ""
    return handler.translate_path(target)


READERS = {  # target -> a path, or its decoded segments
    "aiohttp": lambda target: yarl.URL.build(path=target, encoded=True).path,
    "aiohttp's segments": lambda target: list(yarl.URL.build(path=target, encoded=True).parts[1:]),
    "Django": lambda target: get_path_info({"PATH_INFO": unquote(target, "latin-1")}),
    "WSGI, decoded again": lambda target: unquote(unquote(target, "latin-1"), "latin-1"),
    "urllib": lambda target: unquote(urlsplit(target).path),
    "urllib, decoded first": lambda target: urlsplit(unquote(target)).path,
    "http.server": static_files,
    "servlets": without_parameters,
    "segments": lambda target: [unquote(piece) for piece in target.split("/")],
    "segments, decoded twice": lambda target: [unquote(unquote(piece)) for piece in target.split("/")],
    "decoded, then segments": lambda target: [unquote(piece) for piece in unquote(target).split("/")],
}

PARSED = {"Node's URL", "urllib"}  # as a URL
PARSED_TWICE = {"Node's URL, twice", "urllib, decoded first"}


@pytest.fixture(scope="module")
def targets():
    made = made_targets()
    return [next(made) for _ in range(TARGETS)]


@pytest.fixture(scope="module")
def seen(targets):
    """For each target what each reader makes of it: (reader, segments)."""
    done = subprocess.run(
        [find("node"), "-e", NODE], input=json.dumps(targets), capture_output=True, text=True, check=True
    )
    all_seen = []
    for target, by_node in zip(targets, json.loads(done.stdout), strict=True):
        found = dict(zip(("Node's URL", "Node's URL, twice", "Express"), by_node, strict=True))
        for name, reader in READERS.items():
            try:
                found[name] = reader(target)
            except ValueError:  # the framework would respond with an error
                continue
        all_seen.append([(name, segments(path)) for name, path in found.items() if path is not None])
    return all_seen


def segments(path):
    parts = path if isinstance(path, list) else path.split("/")
    return tuple(part.encode("utf-8", "surrogateescape") for part in parts if part)


def tidied(path):
    return naive_policy.cut([naive_policy.stable(part) for part in path])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_reader_of_a_permitted_path_sees_one_that_is_allowed(targets, seen, pattern):
    policy = Policy(allow=[pattern])
    passed = [
        (target, readers)
        for target, readers in zip(targets, seen, strict=True)
        if policy.judge_path(read_path(target.encode("ascii"))) is None
    ]
    bad = [
        (target, name, path)
        for target, readers in passed
        for name, path in readers
        if not naive_policy.fits(pattern, tidied(path))
        and name not in PARSED_TWICE
        and not (target.startswith("//") and name in PARSED)
    ]
    assert not bad, (len(bad), bad[:5])
    assert passed

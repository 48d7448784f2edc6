"""The layers: imports go downward only, without cycles."""

import ast
from pathlib import Path

import pytest

PROXY = Path(__file__).parent.parent / "proxy"
FLOORS = [  # from the top down; packages on one floor don't import each other, but for the lowest
    {"__main__"},
    {"cli"},
    {"commands"},
    {"demo"},
    {"reload", "startup"},
    {"config_watch", "lookups_again"},
    {"process"},
    {"generation"},
    {"admin"},
    {
        "observe.health",
        "observe.status",
        "observe.supervision",
        "observe.listing",
        "observe.account_index",
        "observe.query",
    },
    {"tls_material", "listeners", "watched_files"},
    {"services"},
    {"relay", "notify"},
    {"tokens"},
    {"store", "oauth"},
    {"http"},
    {"routes", "listen", "adopted", "control_socket"},
    {"config"},
    {
        "errors",
        "endings",
        "secret",
        "tasks",
        "accept",
        "clock",
        "hosts",
        "caller_keys",
        "compiled",
        "fd_limits",
        "reserve",
        "systemd",
        "file_thread",
        "hooks",
        "signals",
        "sockets",
        "unix_sockets",
        "name_lookup",
        "failure_causes",
        "qr_code",
        "observe",
    },
]
LOWEST_KNOW_EACH_OTHER = FLOORS[-1]
STRANGERS = [
    ("relay", "oauth"),
    ("relay", "store"),
    ("config", "observe"),
    ("http", "clock"),
]  # not even downward
AIOHTTP_IN_OAUTH = {"proxy.oauth.fetch"}


def modules():
    for path in sorted(PROXY.rglob("*.py")):
        parts = path.relative_to(PROXY.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), ast.parse(path.read_text())


def imports_of(tree, *, lazy=True):
    """Modules imported anywhere (`lazy`), or at module level only; what is for types alone doesn't count."""
    skipped = {id(node) for check in ast.walk(tree) if is_type_checking(check) for node in ast.walk(check)}
    for node in ast.walk(tree) if lazy else tree.body:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_type_checking(node):
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


ABOVE_THEIR_PACKAGE = set().union(*FLOORS[:-1])


def room(module):
    """The package below `proxy`, or the module where it stands on a floor of its own."""
    if "." not in module:
        return ""
    name = module.removeprefix("proxy.")
    return name if name in ABOVE_THEIR_PACKAGE else name.split(".")[0]


def floor(name):
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


ALL = dict(modules())


@pytest.mark.parametrize("module", [name for name in ALL if name != "proxy"])
def test_imports_go_downward(module):
    mine = room(module)
    for imported in set(imports_of(ALL[module])) & set(ALL):
        theirs = room(imported)
        if theirs == "" or mine.split(".")[0] == theirs.split(".")[0]:
            continue
        lowest = {mine, theirs} <= LOWEST_KNOW_EACH_OTHER
        assert floor(mine) < floor(theirs) or lowest, f"{module} imports {imported}, which is not below it"
        assert (mine, theirs) not in STRANGERS, f"{module} must not know {imported}"


# what a person is paged for is of these
TALKS_IN_EVENTS = {
    "notify",
    "tokens",
    "oauth",
    "store",
    "tasks",
    "fd_limits",
}


@pytest.mark.parametrize("module", [name for name in ALL if room(name) in TALKS_IN_EVENTS])
def test_what_a_person_or_a_rule_waits_for_is_an_event(module):
    """Else it is a "notice", which no rule can tell from another."""
    plain = [
        node.lineno
        for node in ast.walk(ALL[module])
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and getattr(node.func.value, "id", "") == "_log"
        and not any(keyword.arg == "extra" for keyword in node.keywords)
    ]
    assert not plain, f"{module} logs without an event in lines {plain}"


def test_no_import_goes_in_a_circle():
    graph = {name: set(imports_of(tree, lazy=False)) & set(ALL) - {name} for name, tree in ALL.items()}
    while leaves := [name for name, imported in graph.items() if not imported]:
        for leaf in leaves:
            del graph[leaf]
        for imported in graph.values():
            imported.difference_update(leaves)
    assert not graph, f"these import each other: {sorted(graph)}"


def test_one_module_calls_authorization_servers():
    callers = {
        name for name, tree in ALL.items() if room(name) == "oauth" and "aiohttp" in set(imports_of(tree))
    }
    assert callers == AIOHTTP_IN_OAUTH


def test_every_module_has_a_layer():
    assert {room(name) for name in ALL if room(name)} == set().union(*FLOORS)


def test_functions_and_modules_stay_small():
    for name, tree in ALL.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{name}.{node.name} is over 60 lines"

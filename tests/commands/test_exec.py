"""`token-proxy exec`: the real command with real programs, beside a running server or with one of its own."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress

import pytest

from tests.servers.programs import find

PATIENCE = 90  # seconds until a process has done what it was started for
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="proc(5)")
CALLERS = """
[callers.build]
not_before = 1700000000
routes = ["machine"]
[callers.other]
not_before = 1700000000
routes = ["demo"]
"""
ASK = """
import json, os, sys, urllib.error, urllib.request
def ask(url):
    key = os.environ.get("TOKEN_PROXY_KEY")
    request = urllib.request.Request(url + "/x", headers={"Token-Proxy-Key": key} if key else {})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
urls = {name: url for name, url in os.environ.items() if name.endswith("_URL")}
codes = {name: ask(url) for name, url in urls.items()}
print(json.dumps({"pid": os.getpid(), "env": dict(os.environ), "codes": codes}))
"""
STATE = """
import ctypes, json, os, resource, sys
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "umask": os.umask(0),
    "limits": {n: resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")},
    "signals": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt", "NoNewPrivs")],
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    "files": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{fd}")),
    "folder": os.getcwd(),
    "session": os.getsid(0),
    "nice": os.nice(0),
    "stdin": sys.stdin.read(),
}))
"""


class Program:
    """A command that runs `exec`, with pipes."""

    def __init__(self, process):
        self._process = process
        self.pid = process.pid
        self.stdin, self.stdout = process.stdin, process.stdout

    async def line(self):
        async with asyncio.timeout(PATIENCE):
            return (await self.stdout.readline()).decode().rstrip("\n")

    async def end(self, data=None):
        """The exit code, stdout and stderr."""
        async with asyncio.timeout(PATIENCE):
            out, err = await self._process.communicate(data)
        return self._process.returncode, out.decode(), err.decode()

    def signal(self, number):
        with suppress(ProcessLookupError):  # it has ended
            self._process.send_signal(number)


@pytest.fixture
async def start(bench):
    """Start `exec` with a program."""
    started = []

    async def start(*command, options=(), environ=None, prefix=(), **more):
        process = await asyncio.create_subprocess_exec(
            *(
                *prefix,
                sys.executable,
                "-m",
                "proxy",
                "exec",
                "-c",
                str(bench.path),
                *options,
                "--",
                *command,
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(environ or {})},
            **more,
        )
        started.append(process)
        return Program(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
async def run(start):
    """Run a program to its end: exit code, stdout, stderr."""

    async def run(*command, data=None, **more):
        return await (await start(*command, **more)).end(data)

    return run


def python(script):
    return (sys.executable, "-c", script)


async def test_a_program_gets_the_base_urls_and_calls_them(bench, run):
    bench.edit('path = "/demo"', 'path = "/demo"\nenv = "THE_DEMO_URL"')
    secret = f'{{ file = "{bench.config.server.state_dir}/secret" }}'
    text = bench.path.read_text().replace(secret, '{ env = "CLIENT_SECRET" }')
    bench.path.write_text(text)
    environ = {
        "CLIENT_SECRET": (bench.config.server.state_dir / "secret").read_text(),
        "http_proxy": "http://127.0.0.1:9",  # nobody listens there
        "KEPT": "kept \udcff",
        "no_proxy": "",
        "NO_PROXY": "",
    }
    code, out, err = await run(*python(ASK), environ=environ)
    assert code == 0, err
    said = json.loads(out)
    assert said["codes"] == {"THE_DEMO_URL": 503, "MACHINE_BASE_URL": 200}
    assert said["env"]["MACHINE_BASE_URL"].startswith("http://127.0.0.1:")
    assert said["env"]["THE_DEMO_URL"].endswith("/demo")
    assert said["env"]["KEPT"] == environ["KEPT"]
    assert said["env"]["no_proxy"] == said["env"]["NO_PROXY"] == "127.0.0.1"
    assert "CLIENT_SECRET" not in said["env"]
    assert "TOKEN_PROXY_KEY" not in said["env"]
    assert err == "warning: person/default: nobody has logged in yet; run `token-proxy login person`\n"
    assert not (bench.config.server.state_dir / "control.sock").exists()


async def test_the_running_server_is_used_and_the_process_becomes_the_program(bench, start, run):
    file = bench.config.server.state_dir / "secret"
    text = bench.path.read_text().replace(f'{{ file = "{file}" }}', '{ env = "CLIENT_SECRET" }')
    bench.path.write_text(text)
    server = await bench.start("run", "-c", str(bench.path), CLIENT_SECRET=file.read_text())
    await server.until('"event": "start"')
    program = await start(*python(ASK))
    code, out, err = await program.end()
    assert code == 0, err
    said = json.loads(out)
    assert said["pid"] == program.pid, "it has become the program"
    assert said["env"]["MACHINE_BASE_URL"] == f"{bench.data}/machine"
    assert said["codes"] == {"DEMO_BASE_URL": 503, "MACHINE_BASE_URL": 200}
    assert err == "warning: person/default: nobody has logged in yet; run `token-proxy login person`\n"

    node = 'fetch(process.env.MACHINE_BASE_URL + "/x").then(r => r.text()).then(console.log)'
    curl = f"{sys.executable} -m tests.servers.curl $MACHINE_BASE_URL/y"
    _, out, _ = await run("sh", "-c", f"{find('node')} -e '{node}'; {curl}")
    assert [json.loads(line)["path"] for line in out.split("\n")] == ["/x", "/y"]

    bench.path.write_text(bench.path.read_text() + "\n# changed\n")
    code, out, err = await run("sh", "-c", "echo $MACHINE_BASE_URL")
    assert (code, out) == (0, f"{bench.data}/machine\n")
    assert "the configuration has changed since the running server read it" in err
    assert f"kill -HUP {server.pid}" in err
    bench.path.write_text(bench.path.read_text().replace('path = "/machine"', 'name = "new"\npath = "/new"'))
    server.signal(signal.SIGHUP)
    await server.until('"event": "reload"')
    code, out, err = await run("sh", "-c", "echo $NEW_BASE_URL $MACHINE_BASE_URL")
    assert (code, out) == (0, f"{bench.data}/new\n")
    assert "changed" not in err

    other = bench.path.with_name("other.toml")
    other.write_text(text)
    options, environ = ("-c", str(other)), {"CLIENT_SECRET": file.read_text()}
    code, out, err = await run("sh", "-c", "echo $MACHINE_BASE_URL", options=options, environ=environ)
    assert code == 0
    assert out.startswith("http://127.0.0.1:")
    assert out != f"{bench.data}/machine\n"
    assert f"a server with another configuration ({bench.path}) has this state_dir" in err
    assert "is taken, so that there is no page: log in by `token-proxy login`" in err


async def test_listeners_of_routes_and_port_0_and_a_killed_server(bench, run):
    """The running server's real addresses are told."""
    bench.edit('path = "/machine"', 'name = "own"\nlisten = "127.0.0.1:0"')
    bench.edit('path = "/demo"', 'name = "demo"\nhost = "demo.localhost"')
    data, admin = bench.config.server.listen[0], bench.config.server.admin
    bench.edit(f'"{data}"', '"0.0.0.0:0"\nanyone = ["127.0.0.0/8"]')
    bench.edit(str(admin), "127.0.0.1:0")
    server = await bench.run()
    ports = [json.loads(line)["listen"].rpartition(":")[2] for line in server.log if '"listen":' in line]
    _, out, err = await run("sh", "-c", "echo $DEMO_BASE_URL $OWN_BASE_URL")
    assert out == f"http://demo.localhost:{ports[1]} http://127.0.0.1:{ports[2]}\n", err

    await server.kill()
    assert (bench.config.server.state_dir / "control.sock").is_socket()
    code, out, err = await run("sh", "-c", "echo $OWN_BASE_URL")
    assert code == 0, err
    assert out.startswith("http://127.0.0.1:")
    assert out != f"http://127.0.0.1:{ports[2]}\n", "the socket of a killed server is no server"


async def test_exit_codes_beside_a_server_of_its_own(run):
    assert (await run("sh", "-c", "kill -TERM $$"))[0] == 128 + signal.SIGTERM
    code, out, err = await run("no-such-program")
    assert (code, out) == (127, "")
    assert err.endswith("token-proxy: no-such-program: command not found\n")


async def test_a_program_without_stdin_stdout_and_stderr(run):
    closed = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    script = "for fd in 0 1 2; do [ -e /dev/fd/$fd ] && exit 9; done; exit 3"
    assert await run("sh", "-c", script, prefix=closed) == (3, "", "")


async def test_exit_codes_in_place(bench, run, tmp_path):
    await bench.run()
    script = tmp_path / "script"
    script.write_text("exit 0\n")
    script.chmod(0o755)
    commands = [("sh", "-c", "exit 7"), ("no-such-program",), ("",), (str(tmp_path),), (str(script),)]
    assert [(await run(*each))[0] for each in commands] == [7, 127, 127, 126, 126]
    shell = f'{sys.executable} -m proxy exec -c {bench.path} -- sh -c "kill -TERM \\$\\$"; exit $?'
    killed = await asyncio.create_subprocess_exec("sh", "-c", shell)
    assert await killed.wait() == 128 + signal.SIGTERM, "as a shell sees it"


async def test_faults_start_nothing(bench, run):
    text, mark = bench.path.read_text(), bench.path.with_name("started")
    socket = f'"unix:{bench.path.with_name("data.sock")}"'
    cases = [
        (("[server]", "[sever]"), f"{bench.path}:1:"),
        (('path = "/demo"', 'path = "/demo"\nname = "machi_ne"'), "have the variable MACHI_NE_BASE_URL"),
        ((f'"{bench.config.server.listen[0]}"', socket), "no route has a base URL"),
    ]
    for (old, new), said in cases:
        bench.path.write_text(text.replace(old, new).replace('path = "/machine"', 'path = "/machi-ne"'))
        code, _, err = await run("touch", str(mark))
        assert code == 2
        assert said in err
    bench.path.write_text(text)
    (bench.config.server.state_dir / "tokens.db").write_text("no database")
    assert (await run("touch", str(mark)))[0] == 1
    assert not mark.exists()


async def test_a_callers_key_is_worth_what_the_caller_may_do(bench, run):
    text = bench.path.read_text() + CALLERS
    bench.path.write_text(text.replace("[log]", '[store]\nurl = "memory:"\n[log]'))
    own = json.loads((await run(*python(ASK), options=("--caller", "build")))[1])
    assert own["codes"] == {"DEMO_BASE_URL": 403, "MACHINE_BASE_URL": 200}
    assert own["env"]["TOKEN_PROXY_KEY"].startswith("tpk_s1.build.")
    bench.path.write_text(text)
    await bench.run()
    said = json.loads((await run(*python(ASK), options=("--caller", "build")))[1])
    assert said["codes"] == {"DEMO_BASE_URL": 403, "MACHINE_BASE_URL": 200}
    code, out, err = await run(*python(ASK))
    assert code == 0
    assert json.loads(out)["codes"] == {"DEMO_BASE_URL": 401, "MACHINE_BASE_URL": 401}
    assert "--caller gives it one (build, other)" in err
    code, out, err = await run(*python(ASK), options=("--caller", "nobody"))
    assert (code, out) == (2, "")
    assert "expected a caller of the configuration: build, other" in err


@only_linux
async def test_a_program_is_as_if_it_were_started_directly(bench, run):
    """Its umask, limits, signals, files, and stdin."""
    prefix = ("sh", "-c", 'umask 027; ulimit -Sn 512; ulimit -Sc 0; exec 7</dev/zero; exec "$@"', "sh")

    # Python changes them; by the shell alone, as dash blocks all signals while it starts a program
    script = """
while read -r line; do case $line in Sig[BI]*) echo "$line" >&2;; esac; done < /proc/$$/status
exec "$@"
"""
    signals = ("sh", "-c", script, "sh")
    command = (*signals, *python(STATE))

    def seen(out, err):
        state = json.loads(out)
        files = sorted(name.partition(":")[0] for name in state["files"])
        return {**state, "files": files, "masks": [line for line in err.splitlines() if "Sig" in line]}

    direct = await asyncio.create_subprocess_exec(
        *(*prefix, *command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    plain = seen(*(text.decode() for text in await direct.communicate(b"in")))
    assert plain["stdin"] == "in"
    assert "/dev/zero" in plain["files"]
    assert len(plain["masks"]) == 2
    own = await run(*command, data=b"in", prefix=prefix)
    await bench.run()
    replaced = await run(*command, data=b"in", prefix=prefix)
    assert seen(*own[1:]) == plain
    assert seen(*replaced[1:]) == plain


async def test_signals_reach_the_program(start):
    script = (
        "trap 'echo usr1' USR1; trap 'echo hup' HUP; trap 'exit 9' TERM; trap 'echo int' INT; trap '' QUIT"
    )
    program = await start("sh", "-c", f"{script}; echo ready; while :; do sleep 0.05; done")
    assert await program.line() == "ready"
    for number, said in ((signal.SIGUSR1, "usr1"), (signal.SIGHUP, "hup"), (signal.SIGINT, "int")):
        program.signal(number)
        assert await program.line() == said
    program.signal(signal.SIGQUIT)
    program.signal(signal.SIGTERM)
    assert (await program.end())[0] == 9


@only_linux
async def test_a_killed_exec_takes_its_program_with_it(start):
    program = await start("sh", "-c", "trap 'echo term; exit' TERM; echo ready; while :; do sleep 0.05; done")
    assert await program.line() == "ready"
    program.signal(signal.SIGKILL)
    assert await program.line() == "term"


async def test_the_end_of_the_programs_output_is_seen_while_it_runs(start):
    """Neither stdout nor other files of its own are held by the server beside it."""
    # In a pipe of the shell: of those that uvloop makes it keeps the program's end open too.
    in_a_pipe = ("bash", "-o", "pipefail", "-c", '"$@" | { cat; echo ended; }', "bash")
    program = await start("sh", "-c", "echo said; exec >&-; read line; exit 4", prefix=in_a_pipe)
    assert [await program.line(), await program.line()] == ["said", "ended"]
    assert (await program.end(b"go\n"))[0] == 4


async def test_a_daemon_that_holds_stdout_does_not_hold_exec(bench):
    out = bench.path.with_name("out")
    with out.open("wb") as file:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "exec", "-c", str(bench.path)),
            *("--", "sh", "-c", "sleep 600 & echo $!; exit 5"),
            stdout=file,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                assert await program.wait() == 5
        finally:
            os.kill(int(out.read_text()), signal.SIGKILL)


async def test_requests_in_flight_are_completed_unless_a_signal_comes(bench, start):
    asked, may_answer = asyncio.Semaphore(0), asyncio.Event()

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.release()
        await may_answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nat last")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as upstream:
        url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
        bench.path.write_text(
            f'{bench.path.read_text()}\n[[routes]]\npath = "/slow"\nupstream = "{url}"\n'
            'credential = "machine"\n'
        )
        curl = f"{sys.executable} -m tests.servers.curl $SLOW_BASE_URL/x"
        script = f"trap '' TERM; echo $SLOW_BASE_URL; {curl} & read line; exit 5"
        patient, hurried = await asyncio.gather(*(start("sh", "-c", script) for _ in "12"))
        assert await patient.line() != await hurried.line(), "each has a server of its own"
        async with asyncio.timeout(PATIENCE):
            for _ in "12":
                await asked.acquire()
        ends = []
        hurried.signal(signal.SIGTERM)  # which it ignores
        for program in (patient, hurried):
            program.stdin.write(b"\n")
            ends.append(asyncio.create_task(program.end()))
        while not ends[1].done():
            hurried.signal(signal.SIGTERM)
            await asyncio.sleep(0.1)
        assert ends[1].result()[0] == 5
        assert not ends[0].done()
        may_answer.set()
        assert (await ends[0])[:2] == (5, "at last")


@only_linux
async def test_ctrl_c_reaches_the_program_once(bench):
    """Often, as the system makes one of two signals that come at the same time."""
    script = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
print("ready", flush=True)
count = 0
while signal.sigtimedwait({signal.SIGINT}, 60 if count < 20 else 1):
    count += 1
    print(f"got {count};", flush=True)
sys.exit(count)
"""
    terminal, its_end = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *("setsid", "--ctty", "--wait", sys.executable, "-m", "proxy", "exec", "-c", str(bench.path)),
        *("--", *python(script)),
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
    )
    os.close(its_end)
    said = b""

    def read_until(word):
        nonlocal said
        with suppress(OSError):  # its end
            while word not in said:
                said += os.read(terminal, 1024)

    try:
        await asyncio.wait_for(asyncio.to_thread(read_until, b"ready"), PATIENCE)
        for count in range(1, 21):
            os.write(terminal, b"\x03")
            await asyncio.wait_for(asyncio.to_thread(read_until, b"got %d;" % count), PATIENCE)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 20, said
    finally:
        os.close(terminal)


async def test_a_configuration_of_the_environment_alone(bench, tmp_path):
    machine = bench.config.credentials["machine"]
    environ = {
        "TOKEN_PROXY_UPSTREAM": f"http://127.0.0.1:{bench.config.routes[0].upstream.port}",
        "TOKEN_PROXY_ISSUER": machine.issuer,
        "TOKEN_PROXY_GRANT": "client_credentials",
        "TOKEN_PROXY_CLIENT_ID": machine.client_id,
        "TOKEN_PROXY_CLIENT_SECRET_FILE": str(bench.config.server.state_dir / "secret"),
        "TOKEN_PROXY_LISTEN": "127.0.0.1:0",
        "TOKEN_PROXY_ADMIN": "127.0.0.1:0",
        "STATE_DIRECTORY": str(tmp_path / "state"),
    }

    async def ask():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "exec", "--", *python(ASK)),
            env={**os.environ, **environ},
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            said = json.loads((await process.communicate())[0])
        assert said["codes"] == {"DEFAULT_BASE_URL": 200}
        assert not [name for name in said["env"] if name.startswith("TOKEN_PROXY_")]
        assert said["env"]["STATE_DIRECTORY"] == environ["STATE_DIRECTORY"]
        return said["pid"] == process.pid

    assert not await ask()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "run"),
        env={**os.environ, **environ},
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        while b'"event": "start"' not in await server.stderr.readline():
            pass
    assert await ask(), "that server is used"
    server.terminate()
    await server.communicate()

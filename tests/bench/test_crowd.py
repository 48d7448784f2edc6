"""The generator of `many`: whom it counts, and with which latency."""

import asyncio
import json
import subprocess
from asyncio import StreamReader, StreamWriter
from pathlib import Path

import pytest

from .conftest import BENCH

CALLERS = 40
PAUSE = 0.2  # seconds until a response: so few responses that the silent callers are more than one percent


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("crowd") / "crowd"
    flags = ("-O2", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["cc", *flags, "-o", str(program), str(BENCH / "crowd.c")], check=True)
    return program


class Api:
    """Responds after a while, and to some callers never."""

    def __init__(self, status: str = "200 OK", silent: int = 0, pieces: bool = False) -> None:
        self.status, self.silent, self.pieces = status, silent, pieces
        self.callers = 0
        self.serving: set[asyncio.Task[None] | None] = set()
        self.heads: list[bytes] = []

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.callers += 1
        self.serving.add(asyncio.current_task())
        mute = self.callers <= self.silent
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                if mute:
                    await reader.readuntil(b"\r\n\r\n")  # until the caller goes
                await asyncio.sleep(PAUSE)
                writer.write(f"HTTP/1.1 {self.status}\r\nContent-Len".encode())
                if self.pieces:
                    await writer.drain()
                    await asyncio.sleep(0.01)
                writer.write(b"gth: 4\r\n\r\nbody")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def load(self, crowd: Path) -> tuple[dict[str, float], dict[str, int], list[str]]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        words = (str(port), str(CALLERS), "/api/real", "1", "0.1", "1")
        process = await asyncio.create_subprocess_exec(str(crowd), *words, stdout=subprocess.PIPE)
        said, _ = await process.communicate()
        server.close()
        await asyncio.gather(*filter(None, self.serving))
        *marks, report = said.decode().splitlines()
        figures = json.loads(report)
        return figures, figures.pop("errors"), marks


async def test_each_part_has_its_responses_and_marks(crowd: Path) -> None:
    api = Api(pieces=True)
    figures, errors, marks = await api.load(crowd)
    assert marks == ["MARK"] * 4
    assert figures["first_requests"] > 0
    assert figures["steady_requests"] > 0
    assert figures["first_p50_ms"] >= PAUSE * 1000
    assert not any(errors.values())
    assert len(set(api.heads)) == len(api.heads)  # no two requests are the same
    assert all(head.count(b"\r\n") - 2 == 9 for head in api.heads)


async def test_a_caller_without_a_response_counts_with_its_waiting(crowd: Path) -> None:
    figures, _, _ = await Api(silent=8).load(crowd)
    assert figures["steady_p99_ms"] >= 2 * 1000  # from its connecting, which is before the first part


async def test_bad_responses_are_errors(crowd: Path) -> None:
    _, errors, _ = await Api(status="503 Service Unavailable").load(crowd)
    assert errors["bad_status"] > 0

"""An agent that uses the reference SDK's client and knows no OAuth: mcp_agent.py NAME URL MODE.

It calls a tool again and again until it is killed, and prints what became of each call. MODE "legacy" is a
session, "auto" what the SDK chooses. As its client ends with the first lost connection, it begins again then.
"""

import asyncio
import sys

from mcp import Client

NAME, URL, MODE = sys.argv[1:]


def say(*words: object) -> None:
    print(*words, flush=True)


async def work() -> None:
    steps: list[float] = []

    async def step(progress: float, _total: float | None, _message: str | None) -> None:
        steps.append(progress)

    async with Client(URL, mode=MODE) as client:
        counted = await client.call_tool("count", {"to": 3}, progress_callback=step)
        say("counted", counted.content[0].text, len(steps))
        while True:
            result = await client.call_tool("whoami", {"agent": NAME})
            say("error" if result.is_error else "done", result.content[0].text)
            await asyncio.sleep(0.2)


while True:
    try:
        asyncio.run(work())
    except Exception as error:  # noqa: BLE001 (a group around whatever the HTTP library raised)
        say("failed", type(error).__name__)

"""WebSockets, eight at a time, each with messages of many sizes that must come back as they were said.

ws_client.py ADDRESS MODE COUNT [GATE]

MODE: close: COUNT sockets that end as they should; drop: that end without a word; server: that ask the server at ADDRESS, and no other
that hears of it, to end them; hold: that wait for the file GATE after their first messages. Prints `done OK FAILED`.
"""

import asyncio
import os
import sys

from websockets.asyncio.client import connect

ADDRESS, MODE, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3])
GATE = sys.argv[4] if len(sys.argv) > 4 else ""
PATIENCE = 60


def messages(n):
    for i in range(1 + n % 7):
        size = (n * 31 + i * i * 4099) % 70_000
        yield "\u00fc" * (size // 2) if i % 2 else bytes([n % 251]) * size


async def say(socket, n):
    for message in messages(n):
        await socket.send(message)
        assert await socket.recv() == message


async def one(n, places):
    async with places:
        headers = {"X-Request-Id": "ws-%d" % n}
        # Who waits to see bytes arrive wants to know how many.
        deflate = None if MODE == "hold" else "deflate"
        options = {"additional_headers": headers, "open_timeout": PATIENCE, "max_size": None, "compression": deflate}
        socket = await connect("ws://%s/socket" % ADDRESS, **options)
        await say(socket, n)
        if MODE == "hold":
            for _ in range(PATIENCE * 100):
                if os.path.exists(GATE):
                    break
                await asyncio.sleep(0.01)
            await say(socket, n + 1)
        if MODE == "drop":
            socket.transport.abort()
        elif MODE == "server":
            await socket.send("close " + ADDRESS.rpartition(":")[0])
            await socket.wait_closed()
            assert socket.close_code == 4001, socket.close_code
        else:
            await socket.close()


async def main():
    places = asyncio.Semaphore(8)
    work = [asyncio.wait_for(one(n, places), PATIENCE) for n in range(COUNT)]
    done = await asyncio.gather(*work, return_exceptions=True)
    failed = [error for error in done if error is not None]
    for error in failed:
        print(repr(error), file=sys.stderr)
    print("done %d %d" % (COUNT - len(failed), len(failed)), flush=True)


asyncio.run(main())

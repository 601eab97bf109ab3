"""``python -m tests.benchmarks.throttle PORT RATE``: a way to that port that takes RATE bytes a second.

A process of its own, so that it costs nobody else's interpreter anything. All connections share the rate;
what comes back is not held up. Prints the port it listens on.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

__all__ = ["throttled"]

_PIECE = 1 << 16


@contextmanager
def throttled(url: str, rate: float) -> Iterator[str]:
    """Another URL of the server at ``url``, to which no more than ``rate`` bytes a second go."""
    argv = [sys.executable, "-m", "tests.benchmarks.throttle", str(urlsplit(url).port), str(rate)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


class _Throttle:
    def __init__(self, port: int, rate: float) -> None:
        self._port = port
        self._rate = rate
        self._free_at = 0.0

    async def serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(
            self._pump(reader, there[1], self._pause), self._pump(there[0], writer, self._at_once)
        )

    async def _pause(self, size: int) -> None:
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / self._rate
        await asyncio.sleep(self._free_at - now)

    async def _at_once(self, size: int) -> None:
        pass

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pause: Callable[[int], Awaitable[None]],
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_PIECE):
                await pause(len(data))
                writer.write(data)
                await writer.drain()
        writer.close()


if __name__ == "__main__":
    asyncio.run(_Throttle(int(sys.argv[1]), float(sys.argv[2])).serve())

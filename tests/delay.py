"""A way to a server that takes its time, as from another continent: `python delay.py port-there port-here seconds`."""

import asyncio
import sys
from contextlib import suppress


async def _serve(there: int, here: int, round_trip: float) -> None:
    ways: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", there)
        except OSError:
            writer.close()
            return
        for source, target in ((reader, there_writer), (there_reader, writer)):
            chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
            for way in (_read(source, chunks, round_trip / 2), _write(target, chunks)):
                task = asyncio.create_task(way)
                ways.add(task)
                task.add_done_callback(ways.discard)

    async with await asyncio.start_server(connected, "127.0.0.1", here) as server:
        await server.serve_forever()


async def _read(source: asyncio.StreamReader, chunks: "asyncio.Queue[tuple[float, bytes]]", wait: float) -> None:
    chunk = b"-"
    while chunk:
        try:
            chunk = await source.read(65_536)
        except ConnectionError:
            chunk = b""
        chunks.put_nowait((asyncio.get_running_loop().time() + wait, chunk))


async def _write(target: asyncio.StreamWriter, chunks: "asyncio.Queue[tuple[float, bytes]]") -> None:
    chunk = b"-"
    with suppress(ConnectionError):
        while chunk:
            due, chunk = await chunks.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            target.write(chunk)
            await target.drain()
    target.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))

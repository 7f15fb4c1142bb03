"""A stand-in for Envoy: listens on the Unix socket named in its bootstrap, answers 200 to everything, ends on SIGTERM.

Its bootstrap is JSON: {"socket": path, "exit": code or absent, "says": text or absent}.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    bootstrap = json.loads(Path(sys.argv[1]).read_text())
    if "says" in bootstrap:
        print(bootstrap["says"], file=sys.stderr, flush=True)
    if "exit" in bootstrap:
        sys.exit(bootstrap["exit"])
    Path(bootstrap["socket"]).unlink(missing_ok=True)
    asyncio.run(serve(bootstrap["socket"]))


async def serve(path: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await asyncio.start_unix_server(answer, path)
    await asked.wait()
    os._exit(0)


if __name__ == "__main__":
    main()

"""A stand-in for `python -m serving`: takes a WorkerSpec's arguments and answers the paths of contracts/worker.py.

How it behaves is read from `behaviour.json` in its package folder, anew by each incarnation:
    {"exit": 3, "says": "package is broken"}    say it and exit before listening
    {"ready": false}                            listen, and answer 503 to the question whether it is ready
    {"deaf": true}                              ignore SIGTERM
    {"listen_after": "path"}                    listen once that file exists
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from contracts.worker import EXIT_DRAINED, PATH_READY, PATH_WORKER


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("model", "version", "color", "package", "digest", "socket", "threads", "replicas", "drain-seconds"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--quarantine")
    parser.add_argument("--packed")
    parser.add_argument("--gentle", action="store_true")
    spec = parser.parse_args()
    path = Path(spec.package) / "behaviour.json"
    behaviour = json.loads(path.read_text()) if path.exists() else {}
    if "says" in behaviour:
        print(behaviour["says"], file=sys.stderr, flush=True)
    if "exit" in behaviour:
        sys.exit(behaviour["exit"])
    while "listen_after" in behaviour and not Path(behaviour["listen_after"]).exists():
        time.sleep(0.02)
    asyncio.run(serve(spec, behaviour))


async def serve(spec: argparse.Namespace, behaviour: dict[str, object]) -> None:
    about = {"model": spec.model, "version": int(spec.version), "digest": spec.digest, "pid": os.getpid()}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ", 2)[1].decode()
            status = "200 OK"
            if path == PATH_READY and not behaviour.get("ready", True):
                status = "503 Service Unavailable"
            body = json.dumps(about if path == PATH_WORKER else {}).encode()
            writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, (lambda: None) if behaviour.get("deaf") else asked.set
    )
    await asyncio.start_unix_server(connection, spec.socket)
    await asked.wait()
    os._exit(EXIT_DRAINED)


if __name__ == "__main__":
    main()

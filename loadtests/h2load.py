"""Runs `h2load` (Debian's nghttp2-client) with one gRPC message and reads its report: a closed loop, for throughput.

h2load is fast enough not to be the limit, and knows nothing of gRPC: an error is HTTP 200 with a status in the
headers. So a real call before and after must succeed, and every answer must bring as many bytes as a good one.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import grpc

from loadtests.tensors import GRPC_INFER, grpc_frame

CALL_SECONDS = 10.0


@dataclass(frozen=True)
class H2Result:
    """`rate` in requests per second; `failed` of `requests` got no HTTP 2xx; `data` is all bytes of all bodies."""

    rate: float
    requests: int
    failed: int
    data: int


def installed() -> bool:
    return shutil.which("h2load") is not None


def infer_rate(port: int, message: bytes, *, connections: int, seconds: float) -> float:
    """ModelInfer calls per second on 127.0.0.1. Raises RuntimeError when one was not answered as the first was."""
    size = len(call(port, message)) + len(grpc_frame(b""))
    run(port, message, connections=connections, seconds=1)
    result = run(port, message, connections=connections, seconds=seconds)
    call(port, message)
    # Requests cut off at the end have sent some of their bytes already, and are not counted.
    if result.failed or abs(result.data - result.requests * size) > connections * size:
        raise RuntimeError(
            f"port {port}: {result.requests} calls, {result.failed} failed, {result.data} bytes of answers, "
            f"expected {size} each: no number from this round"
        )
    return result.rate


def call(port: int, message: bytes) -> bytes:
    """One ModelInfer call by a real gRPC client; returns the answer's message. Raises grpc.RpcError."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return bytes(channel.unary_unary(GRPC_INFER)(message, timeout=CALL_SECONDS))


def run(port: int, message: bytes, *, connections: int, seconds: float) -> H2Result:
    with tempfile.NamedTemporaryFile() as body:
        Path(body.name).write_bytes(grpc_frame(message))
        command = ["h2load", f"--duration={max(round(seconds), 1)}", f"--clients={connections}", "--threads=1"]
        command += ["--max-concurrent-streams=1", f"--data={body.name}"]
        command += ["--header=content-type: application/grpc", "--header=te: trailers"]
        command.append(f"http://127.0.0.1:{port}{GRPC_INFER}")
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    return parse(output)


def parse(output: str) -> H2Result:
    """Read h2load's report; raise ValueError when it is none."""
    rate = re.search(r"([\d.]+) req/s", output)
    done = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", output)
    data = re.search(r"\((\d+)\) data", output)
    if rate is None or done is None or data is None:
        raise ValueError(f"h2load printed no result: {output[-400:]}")
    requests, succeeded = int(done.group(1)), int(done.group(2))
    return H2Result(float(rate.group(1)), requests, requests - succeeded, int(data.group(1)))

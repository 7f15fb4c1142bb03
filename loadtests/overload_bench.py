"""What is left of the throughput when twice and ten times as many requests come as can be answered.

Open loop, Poisson, each request with a deadline of half a second; goodput is what is answered well within it. First the
peak: the best goodput around what a closed loop reaches. Then 2 and 10 times its rate. The model takes some 10 ms a
row, so that sending, refusing and counting the surplus on the same two cores costs little beside computing; what it
costs the generator is in the table, too.

    python -m loadtests.overload_bench [--rounds 3] [--seconds 15]
"""

import asyncio
import math
import time
from dataclasses import dataclass

import numpy as np
import uvloop
from sklearn.datasets import load_digits

from loadtests import wrk
from loadtests.command import Options, options, publish, say
from loadtests.homes import fresh_home, register
from loadtests.load import MOST_CONNECTIONS, Load, Outcome
from loadtests.openloop import run
from loadtests.report import Row, ratios
from loadtests.tensors import v1_json
from tests.e2e.gateway import Gateway, running

MODEL = "heavy"
DEADLINE = 0.5  # seconds; what a caller calls an answer
AROUND_PEAK = (0.9, 1.0, 1.1)
CONNECTIONS = 16  # of the closed loop that says where the peak may be


@dataclass(frozen=True)
class Step:
    """One rate for some seconds. `generator` is the share of one core that sending took."""

    rate: float
    seconds: float
    outcome: Outcome
    generator: float

    @property
    def goodput(self) -> float:
        """Answers per second that came within the deadline."""
        good = sum(sample.ok and sample.latency <= DEADLINE for sample in self.outcome.samples)
        return good / self.seconds

    @property
    def admitted_p99(self) -> float | None:
        """Seconds from due to answered, of what was answered well; None when nothing was."""
        return self.outcome.quantile(0.99) if self.outcome.ok else None

    @property
    def refused_p99(self) -> float | None:
        """Seconds from sent to refused (503); None when nothing was."""
        times = sorted(s.done - s.sent for s in self.outcome.samples if s.status == 503)
        return times[math.ceil(0.99 * len(times)) - 1] if times else None

    @property
    def broken(self) -> int:
        """Answers that are neither good, nor a refusal, nor a deadline that passed."""
        return sum(not s.ok and s.status not in (503, 504) for s in self.outcome.samples)


def step(gateway: Gateway, body: bytes, rate: float, seconds: float, seed: int) -> Step:
    load = Load(
        f"{gateway.url}/v1/models/{MODEL}:predict",
        rate,
        seconds,
        body=body,
        headers=(("x-teal-timeout-ms", f"{DEADLINE * 1e3:.0f}"),),
        connections=MOST_CONNECTIONS,
        poisson=True,
        seed=seed,
    )
    began = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(run(load))
    made = Step(rate, seconds, outcome, (time.process_time() - began) / seconds)
    say(f"{rate:7.0f}/s: goodput {made.goodput:.0f}/s, not answered well: {dict(outcome.failures.most_common(3))}")
    return made


def restarts(gateway: Gateway) -> int:
    workers = gateway.status(MODEL)["live"]["workers"]
    return sum(worker["restarts"] for worker in workers)


def measure(gateway: Gateway, chosen: Options) -> list[Row]:
    body = v1_json((load_digits().data[:1] / 16.0).astype(np.float32)).content
    url = f"{gateway.url}/v1/models/{MODEL}:predict"
    closed = wrk.measured(url, body, connections=CONNECTIONS, seconds=chosen.seconds).rate
    say(f"closed loop: {closed:.0f}/s")
    peaks, twice, tenfold = [], [], []
    for number in range(chosen.rounds):
        say(f"round {number + 1}")
        tried = [step(gateway, body, share * closed, chosen.seconds, number) for share in AROUND_PEAK]
        peaks.append(max(tried, key=lambda each: each.goodput))
        twice.append(step(gateway, body, 2 * peaks[-1].goodput, chosen.seconds, number))
        tenfold.append(step(gateway, body, 10 * peaks[-1].goodput, chosen.seconds, number))
    peak = [each.goodput for each in peaks]
    rows = [Row("peak goodput", "answers/s", tuple(peak))]
    for name, steps, goal in (("2 times", twice, 0.95), ("10 times", tenfold, 0.85)):
        goodput = [each.goodput for each in steps]
        admitted = _known([each.admitted_p99 for each in steps])
        refused = _known([each.refused_p99 for each in steps])
        broken = tuple(float(each.broken) for each in steps)
        rows += [
            Row(f"{name} the peak's rate: goodput", "answers/s", tuple(goodput)),
            Row(f"{name}: goodput / peak", "x", ratios(goodput, peak), goal),
            Row(f"{name}: neither answered, refused nor late", "", broken, 0, at_least=False),
            Row(f"{name}: the generator", "cores", tuple(each.generator for each in steps)),
        ]
        if admitted:
            rows.append(Row(f"{name}: admitted p99", "ms", _ms(admitted), 1.5e3 * DEADLINE, at_least=False))
        if refused:  # late answers alone (504) are no proof of anything about refusing
            rows.append(Row(f"{name}: refused p99", "ms", _ms(refused), 10, at_least=False))
    return [*rows, Row("restarts of the worker", "", (restarts(gateway),), 0, at_least=False)]


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _ms(seconds: list[float]) -> tuple[float, ...]:
    return tuple(s * 1e3 for s in seconds)


def main() -> None:
    chosen = options("overload_bench", __doc__, rounds=3, seconds=15)
    wrk.require()
    with fresh_home() as home:
        register(home, MODEL, "heavy")
        with running(home) as gateway:
            gateway.must("deploy", MODEL, "1", "--wait")
            rows = measure(gateway, chosen)
    notes = [
        f"{chosen.rounds} rounds of {chosen.seconds:g} s at each rate, interleaved; the generator shares the cores.",
        f"Every request has a deadline of {DEADLINE:g} s; refused is 503.",
    ]
    publish("overload", "Twice and ten times too much", rows, notes)


if __name__ == "__main__":
    main()

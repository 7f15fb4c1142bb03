"""What the chosen plan and the gateway make of a real architecture: MobileNetV2, 224 by 224, float32.

The same package is deployed twice behind the same Envoy: once with the plan that registration chose, once with the
`tensorflow` plan. Both are asked over the same route with the same bytes, one after the other in every round. Then
the same image as 3 MB of JSON: what a request takes beyond the engine's own run, which is timed in this process.

    python -m loadtests.mobilenet_bench [--rounds 5] [--seconds 6]
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from contracts.package import read_manifest
from loadtests import wrk
from loadtests.command import Options, options, publish, say
from loadtests.homes import fresh_home, register, register_with_plan
from loadtests.report import Row, ratios
from loadtests.tensors import Body, v1_json, v2_binary
from serving.engine.opening import open_engine
from tests.e2e.gateway import Gateway, call, running

CONNECTIONS = 16
CHOSEN, REFERENCE = "mobilenet", "mobilenet-tensorflow"


def engine_seconds(package: Path, image: np.ndarray) -> Callable[[float], float]:
    """Measures the median of the engine's runs of one image over so many seconds, in this process."""
    manifest = read_manifest(package)
    engine = open_engine(package, manifest, 0)
    signature = manifest.signatures[0]
    inputs = {signature.inputs[0].name: image}

    def measure(seconds: float) -> float:
        times: list[float] = []
        until = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < until:
            engine.run(signature.name, inputs)
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    return measure


def verified(gateway: Gateway, model: str, body: Body) -> None:
    """Raises RuntimeError when the body is not answered: then a rate would count errors."""
    answer = call(f"{gateway.url}/v2/models/{model}/infer", body.content, body.headers)
    if answer.status != 200:
        raise RuntimeError(f"{model} answered {answer.status}: {answer.body[:300]!r}")


def measure(gateway: Gateway, package: Path, chosen: Options) -> list[Row]:
    image = np.random.default_rng(7).random((1, 224, 224, 3), np.float32)
    binary = v2_binary(read_manifest(package).signatures[0].inputs[0].name, image)
    text = v1_json(image)
    alone = engine_seconds(package, image)
    latency: dict[str, list[float]] = {CHOSEN: [], REFERENCE: []}
    rate: dict[str, list[float]] = {CHOSEN: [], REFERENCE: []}
    engine, added, added_binary = [], [], []
    for model in (CHOSEN, REFERENCE):
        verified(gateway, model, binary)
    for number in range(chosen.rounds):
        say(f"round {number + 1}")
        for model in (CHOSEN, REFERENCE):
            infer = f"{gateway.url}/v2/models/{model}/infer"
            latency[model].append(_measured(infer, binary, 1, chosen).p50)
            rate[model].append(_measured(infer, binary, CONNECTIONS, chosen).rate)
        as_json = _measured(f"{gateway.url}/v1/models/{CHOSEN}:predict", text, 1, chosen)
        engine.append(alone(chosen.seconds / 2))
        added.append(as_json.p50 - engine[-1])
        added_binary.append(latency[CHOSEN][-1] - engine[-1])
    plan = read_manifest(package).plan
    faster, busier = ratios(latency[CHOSEN], latency[REFERENCE]), ratios(rate[CHOSEN], rate[REFERENCE])
    json_size = f"{len(text.content) / 1e6:.1f} MB of JSON"
    return [
        Row(f"{plan} plan, median at 1 connection", "ms", _ms(latency[CHOSEN])),
        Row("tensorflow plan, median at 1 connection", "ms", _ms(latency[REFERENCE])),
        Row("median, chosen / tensorflow", "x", faster, 0.25, at_least=False),
        Row(f"{plan} plan, {CONNECTIONS} connections", "requests/s", tuple(rate[CHOSEN])),
        Row(f"tensorflow plan, {CONNECTIONS} connections", "requests/s", tuple(rate[REFERENCE])),
        Row("throughput, chosen / tensorflow", "x", busier, 2.5),
        Row("the engine alone, one image", "ms", _ms(engine)),
        Row("added to it by the gateway, binary", "ms", _ms(added_binary)),
        Row(f"added to it by the gateway, {json_size}", "ms", _ms(added), 12, at_least=False),
    ]


def _measured(url: str, body: Body, connections: int, chosen: Options) -> wrk.WrkResult:
    return wrk.measured(url, body.content, connections=connections, seconds=chosen.seconds, headers=body.headers)


def _ms(seconds: list[float]) -> tuple[float, ...]:
    return tuple(s * 1e3 for s in seconds)


def main() -> None:
    chosen = options("mobilenet_bench", __doc__, rounds=5, seconds=6)
    wrk.require()
    with fresh_home() as home:
        package = register(home, CHOSEN, "mobilenet")
        register_with_plan(home, package, "tensorflow", REFERENCE)
        with running(home) as gateway:
            for model in (CHOSEN, REFERENCE):
                gateway.must("deploy", model, "1", "--wait")
            rows = measure(gateway, package, chosen)
    notes = [f"{chosen.rounds} rounds of {chosen.seconds:g} s each, interleaved; load from wrk, 1 thread."]
    publish("mobilenet", "MobileNetV2, 224 by 224, float32", rows, notes)


if __name__ == "__main__":
    main()

"""The batcher without knobs against the best knobs that a search finds, for each model and each load anew.

Load levels are 20, 60 and 95 % of what the best static batcher of that model can do, and arrivals are independent
(Poisson). At each level a grid of (max rows, max wait) is tried, and the setting with the lowest p99 becomes the
opponent there: nobody who runs a static batcher gets to change it with the load, so this opponent is better than any
real one. Then, round by round and on the same arrivals: its p99, and how much traffic Teal's batcher takes at the same
p99 (within 10 %). At low load also: Teal's p99 beside that of no batching at all.

    python -m loadtests.batcher_bench [--rounds 3] [--seconds 3]
"""

from dataclasses import dataclass, field

from loadtests.arrivals import Arrivals
from loadtests.command import Options, options, publish, say
from loadtests.contest import Maker, Model, SelfTuning, capacity, open_loop, opened, static
from loadtests.homes import fresh_home, register
from loadtests.report import Row
from loadtests.search import GRID, NO_BATCHING, best, throughput_at
from loadtests.static_batcher import Knobs

MODELS = {
    "digits/dense": "dense digits, 2 µs a run",
    "middle": "three layers of 2048, where batching pays",
    "mobilenet": "MobileNetV2, where it does not",
}
LEVELS = {"low": 0.2, "middle": 0.6, "high": 0.95}
ENOUGH = 400  # arrivals for a p99
SEARCH_SECONDS = 1.0  # each setting of the grid


@dataclass
class Level:
    """What was measured at one load of one model. `rate` in requests per second, latencies in seconds."""

    rate: float
    knobs: Knobs
    share: list[float] = field(default_factory=list)
    static_p99: list[float] = field(default_factory=list)
    ours_p99: list[float] = field(default_factory=list)
    unbatched_p99: list[float] = field(default_factory=list)


def long_enough(rate: float, seconds: float) -> float:
    """As long as asked, or until there are enough arrivals for a p99, at most twice as long."""
    return min(max(seconds, ENOUGH / rate), 2 * seconds)


def p99(maker: Maker, model: Model, rate: float, seconds: float, seed: int) -> float:
    return open_loop(maker, model, Arrivals(rate, long_enough(rate, seconds), seed)).p99


def measure_round(model: Model, level: Level, name: str, chosen: Options, seed: int) -> None:
    at_rate: dict[float, float] = {}

    def ours(share: float) -> float:
        at_rate[share] = p99(SelfTuning, model, share * level.rate, chosen.seconds, seed)
        return at_rate[share]

    level.static_p99.append(p99(static(level.knobs), model, level.rate, chosen.seconds, seed))
    level.share.append(throughput_at(ours, level.static_p99[-1]))
    level.ours_p99.append(at_rate[1.0])
    if name == "low":
        level.unbatched_p99.append(p99(static(NO_BATCHING), model, level.rate, chosen.seconds, seed))


def contest(model: Model, chosen: Options) -> tuple[dict[str, Level], float, float]:
    """All levels; the capacity of the best static batcher and of Teal's, in requests per second."""
    most = max(capacity(static(knobs), model, SEARCH_SECONDS) for knobs in GRID if not knobs.max_wait)
    ours = capacity(SelfTuning, model, SEARCH_SECONDS)
    levels = {}
    for name, share in LEVELS.items():
        rate = share * most
        found = {knobs: p99(static(knobs), model, rate, SEARCH_SECONDS, seed=1) for knobs in GRID}
        levels[name] = Level(rate, best(found))
        say(f"{name}: {rate:.0f} requests/s, best is {levels[name].knobs}")
    for number in range(chosen.rounds):
        say(f"round {number + 1}")
        for name, level in levels.items():
            measure_round(model, level, name, chosen, seed=2 + number)
    return levels, most, ours


def rows_of(title: str, levels: dict[str, Level], most: float, ours: float) -> list[Row]:
    rows = [Row(f"{title}: most, Teal / best static", "x", (ours / most,))]
    for name, level in levels.items():
        where = f"{title}, {name} load ({level.rate:,.0f}/s, best static {level.knobs})"
        rows.append(Row(f"{where}: throughput at the same p99", "x", tuple(level.share), 0.95))
        pairs = zip(level.ours_p99, level.static_p99, strict=True)
        rows.append(Row(f"{where}: p99, Teal / static", "x", tuple(a / b for a, b in pairs)))
        rows.append(Row(f"{where}: p99, Teal", "ms", tuple(s * 1e3 for s in level.ours_p99)))
        if level.unbatched_p99:
            pairs = zip(level.ours_p99, level.unbatched_p99, strict=True)
            ratio = tuple(a / b for a, b in pairs)
            rows.append(Row(f"{where}: p99, Teal / no batching", "x", ratio, 1.1, at_least=False))
    return rows


def main() -> None:
    chosen = options("batcher_bench", __doc__, rounds=3, seconds=3)
    rows: list[Row] = []
    with fresh_home() as home:
        for source, title in MODELS.items():
            model = opened(register(home, source.rpartition("/")[2], source))
            rows += rows_of(title, *contest(model, chosen))
            model.engine.close()
    notes = [
        f"{chosen.rounds} rounds of {chosen.seconds:g} s or {ENOUGH} arrivals, interleaved, Poisson, in one process.",
        "Throughput at the same p99: the share of the rate that Teal's batcher takes with a p99 within 10 % of the "
        "static one's at the whole rate; tried up to 1.05.",
    ]
    publish("batcher", "The batcher without knobs and the best knobs", rows, notes)


if __name__ == "__main__":
    main()

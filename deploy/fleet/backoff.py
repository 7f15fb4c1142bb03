"""How long to wait before a dead process is started again, and when to stop trying. Pure: knows neither processes
nor clocks; the caller hands in times and randomness.
"""

from dataclasses import dataclass

from contracts.worker import EXIT_BAD_PACKAGE


@dataclass(frozen=True)
class RestartRules:
    """When and how often to start again; times in seconds.

    first_wait, factor, longest_wait   0.2, 0.4, 0.8 ... 30
    jitter       a wait is moved by up to this share, so that workers that died together do not return together
    stable_after a process that lived this long starts over with the first wait
    deaths, window   so many deaths before ever being ready within so long open the breaker. Deaths after having been
                 ready do not: for a model with one poisonous request, being down for good is worse than coming back
    patient      True means that what was ready once is tried for ever: it is known to be able to work
    hopeless     exit codes after which starting again will not help
    """

    first_wait: float = 0.2
    factor: float = 2.0
    longest_wait: float = 30.0
    jitter: float = 0.5
    stable_after: float = 10.0
    deaths: int = 5
    window: float = 60.0
    patient: bool = False
    hopeless: frozenset[int] = frozenset({EXIT_BAD_PACKAGE})


@dataclass(frozen=True)
class Death:
    """One end of a process that nobody asked for.

    at           monotonic seconds         lived    seconds from start to death
    exit_code    negative for a signal; None when the process was not our child, so that nobody can know
    was_ready    whether it was ever ready to serve
    reason       a sentence for people
    ran          False when the machine could not even start it: no memory, no descriptors. That passes, and says
                 nothing about the program, so it never opens the breaker
    """

    at: float
    lived: float
    exit_code: int | None
    was_ready: bool
    reason: str
    ran: bool = True


@dataclass(frozen=True)
class History:
    """What is remembered of a process's deaths: how many in a row without a stable time between, when it last died
    without ever having been ready, and whether any incarnation was ever ready."""

    in_a_row: int = 0
    failed_starts: tuple[float, ...] = ()
    was_ready: bool = False


@dataclass(frozen=True)
class StartAgain:
    wait: float
    reason: str


@dataclass(frozen=True)
class GiveUp:
    reason: str


def after_death(
    history: History, death: Death, roll: float, rules: RestartRules
) -> tuple[History, StartAgain | GiveUp]:
    """What to do about `death`, and the history to hand in next time. `roll` is uniform in [0, 1)."""
    in_a_row = 1 if death.was_ready and death.lived >= rules.stable_after else history.in_a_row + 1
    failed = tuple(at for at in history.failed_starts if death.at - at < rules.window)
    if death.ran and not death.was_ready:
        failed = (*failed, death.at)
    history = History(in_a_row, failed, was_ready=history.was_ready or death.was_ready)
    if death.exit_code in rules.hopeless:
        return history, GiveUp(f"{death.reason}; starting it again will not help, register a version that loads")
    if death.ran and len(failed) >= rules.deaths and not (rules.patient and history.was_ready):
        span = failed[-1] - failed[0]
        return history, GiveUp(f"{death.reason}; died {len(failed)} times in {span:.0f} s without getting ready")
    wait = wait_before_start(in_a_row, roll, rules)
    return history, StartAgain(wait, f"{death.reason}; starting again in {wait:.1f} s")


def wait_before_start(in_a_row: int, roll: float, rules: RestartRules) -> float:
    """Seconds before the start that follows the `in_a_row`-th death, jitter included."""
    # The exponent is capped because 2.0 ** 1100 is an OverflowError, and a worker may well die a thousand times.
    grown = rules.first_wait * rules.factor ** min(in_a_row - 1, 64)
    return min(grown, rules.longest_wait) * (1.0 + rules.jitter * (2.0 * roll - 1.0))

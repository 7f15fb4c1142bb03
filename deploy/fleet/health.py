"""Whether a process is ready, silent or stuck, judged by whether it makes progress and not by whether it exists.
Pure: somebody else asks the process and counts here.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Answer(StrEnum):
    """What came of asking a process whether it is ready."""

    READY = "ready"
    NOT_READY = "not_ready"  # it answered, and said no: still loading, or draining
    SILENT = "silent"  # nobody listens yet, or nothing came back in time


@dataclass(frozen=True)
class HealthRules:
    """Times in seconds, limits in questions that went unanswered in a row.

    Silence is counted in questions, never in elapsed time: a control plane that was itself stopped for a minute has
    asked once, and must not end a fleet that was well all along.
    """

    poll_seconds: float = 0.05  # between questions while it starts
    check_seconds: float = 1.0  # from question to question once it was ready
    answer_seconds: float = 1.0  # how long an answer may take
    suspect_after: int = 2  # with the times above: out of the routing table 2 to 3 s after it stopped answering
    stuck_after: int = 30
    start_seconds: float = 300.0  # longest time from start to ready

    def counted_age(self, age: float) -> float:
        """How many seconds of the time to start an adopted process has used up. One that is older than that is not
        new to being asked, and still gets as long as any silent process before it is replaced."""
        return min(age, max(self.start_seconds - self.stuck_after * self.check_seconds, 0.0))


@dataclass(frozen=True)
class Health:
    """One process, from the first question on. `answered` and `was_ready` never go back."""

    ready: bool = False
    answered: bool = False
    was_ready: bool = False
    silent: int = 0

    def settled(self, rules: HealthRules) -> bool:
        """True once it is known whether the process answers: what a restarted control plane waits for before it
        says who can take traffic."""
        return self.answered or self.silent >= rules.suspect_after


def observed(health: Health, answer: Answer, rules: HealthRules) -> Health:
    """Health after one more answer."""
    if answer is Answer.READY:
        return Health(ready=True, answered=True, was_ready=True)
    if answer is Answer.NOT_READY:
        return replace(health, ready=False, answered=True, silent=0)
    silent = health.silent + 1
    return replace(health, ready=health.ready and silent < rules.suspect_after, silent=silent)


def verdict(health: Health, starting_for: float, rules: HealthRules) -> str | None:
    """Why the process has to be replaced, as the end of a sentence about it, or None when it need not be."""
    if health.was_ready and health.silent >= rules.stuck_after:
        return f"gave no answer to {health.silent} health checks in a row"
    if not health.was_ready and starting_for >= rules.start_seconds:
        return f"was not ready after {rules.start_seconds:.0f} s"
    return None


def pause_after(health: Health, asking_took: float, rules: HealthRules) -> float:
    """Seconds to wait before the next question."""
    if not health.was_ready:
        return rules.poll_seconds
    return max(rules.check_seconds - asking_took, 0.0)

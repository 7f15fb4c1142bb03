"""Checks the record: that nothing in the chain was changed or removed, and that every automatic decision comes out
again, bit for bit, from what it was made from. Reads only.

The chain is checked for all models, because it is one; decisions are replayed for all of them or for one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.audit.chain import GENESIS, linked
from deploy.audit.observations import Stretch, extended, rules_digest
from deploy.audit.replay import Differs, difference, exact, replay
from deploy.audit.report import Found, Pruned, Report, redecided
from deploy.rollout.deployment import Deployment, to_text
from deploy.store.reading import Reading, Row


def verify(record: Reading, model: str | None = None, head: tuple[int, str] | None = None) -> Report:
    """Check everything and say what was found. `head` is the number and hash of an event that somebody noted earlier:
    who can rewrite the whole database can make a whole chain, and only what is kept elsewhere tells."""
    return _Verifier(record, model, head).verify()


@dataclass(frozen=True)
class _Latest:
    """The latest event of one model that says what is deployed: where the next stretch begins."""

    seq: int = 0
    hash: str = GENESIS
    after: str | None = None


@dataclass
class _Verifier:
    record: Reading
    model: str | None
    noted: tuple[int, str] | None
    report: Report = field(default_factory=Report)
    latest: dict[str, _Latest] = field(default_factory=dict)
    missing: dict[int, Pruned] = field(default_factory=dict)  # by the stretch's first event
    pruned: set[int] = field(default_factory=set)

    def verify(self) -> Report:
        seq, previous = 0, GENESIS
        for row in self.record.events():
            self._linked(row, seq, previous)
            seq, previous = row["seq"], row["hash"]
            self.report.events += 1
            if row["after"] is not None:
                self._deployed(row)
        self.report.head = (seq, previous)
        self._ends(seq, previous)
        for standing in self.record.deployments():
            self._stands(standing)
        for model in self.latest:
            self._wrong(None, model, "it has a history and its deployment is gone")
        self._forgotten()
        return self.report

    # ---- the chain

    def _linked(self, row: Mapping[str, Any], seq: int, previous: str) -> None:
        number, model = row["seq"], row["model"]
        if number != seq + 1:
            gone = f"event {seq + 1} is" if number == seq + 2 else f"events {seq + 1} to {number - 1} are"
            self._wrong(number, model, f"{gone} missing before it")
        elif row["previous_hash"] != previous:
            self._wrong(number, model, "the hash it follows is not that of the event before it")
        try:
            made = linked(row["previous_hash"], row)
        except (TypeError, ValueError):
            made = "none: a column holds what no release of Teal writes there"
        if made != row["hash"]:
            what = f"its content is not what was recorded: its hash is {row['hash']}, and what is there has {made}"
            self._wrong(number, model, what)
        if self.noted is not None and self.noted[0] == number and self.noted[1] != row["hash"]:
            self._wrong(number, model, f"its hash is {row['hash']}, and {self.noted[1]} was noted")

    def _ends(self, seq: int, last: str) -> None:
        head = self.record.head()
        if head is None or head[0] > seq:
            latest = "nobody knows how many there were" if head is None else f"event {head[0]} was the latest"
            self._wrong(seq + 1, "", f"the history ends with event {seq}, and {latest}")
        elif head != (seq, last):
            self._wrong(seq, "", f"it is not the end of the chain, which is event {head[0]} with hash {head[1]}")
        if self.noted is not None and self.noted[0] > seq:
            self._wrong(seq + 1, "", f"the history ends with event {seq}, and event {self.noted[0]} was noted")

    # ---- decisions

    def _deployed(self, row: Mapping[str, Any]) -> None:
        model, start = row["model"], self.latest.get(row["model"], _Latest())
        self.latest[model] = _Latest(row["seq"], row["hash"], row["after"])
        if row["evidence"] is None:
            self.report.anchored += 1
            return
        try:
            evidence = json.loads(row["evidence"])
            self.pruned.update(evidence["pruned"])
            if self.model in (None, model):
                self._again(row, start, evidence)
        except Differs as differs:
            self._differs(row["seq"], model, str(differs), evidence["rules"])
        except (ValueError, KeyError, TypeError) as error:
            self._wrong(row["seq"], model, f"what it was decided from cannot be read: {type(error).__name__}: {error}")

    def _again(self, row: Mapping[str, Any], start: _Latest, evidence: Mapping[str, Any]) -> None:
        """Replay what led from the latest event of the model to this one."""
        seq, model = row["seq"], row["model"]
        if evidence["since"] != start.seq:
            self._wrong(seq, model, f"it says that event {evidence['since']} came before it, and that is {start.seq}")
            return
        bodies = self._bodies(seq, model, start, evidence["observations"], evidence["digest"])
        if bodies is None:
            return
        if evidence["observations"] and not bodies:
            self.missing[start.seq] = Pruned(model, evidence["rollout"], seq, evidence["observations"])
            return
        decided = evidence["decided"]
        after, last = replay(start.after or to_text(Deployment(model)), bodies, decided=decided)
        if decided and last is not None:
            self._same(exact(row["before"]), to_text(last.before), "before it, ")
            self._same(exact(row["after"]), after, "after it, ")
            for name, made in (("action", last.decision.action), ("reason", last.decision.reason)):
                if row[name] != made:
                    raise Differs(f"its {name} was recorded as {row[name]!r} and comes out as {made!r}")
            self.report.decisions.append(redecided(row, evidence, last))
        else:
            self._same(exact(row["before"] or row["after"]), after, "before it, ")
        self.report.observations += len(bodies)

    def _bodies(self, seq: int, model: str, start: _Latest, count: int, digest: str) -> list[bytes] | None:
        """The observations of a stretch; empty when they are gone, None when they are not what they were."""
        bodies, so_far = [], start.hash
        for kept in self.record.observations(start.seq) if start.seq else ():
            bodies.append(kept.body)
            so_far = extended(so_far, kept.body)
            if so_far != kept.digest:
                where = f"observation {kept.seq}, number {len(bodies)} of the {count} before event {seq}"
                self._wrong(seq, model, f"{where}, is not what was recorded")
                return None
        if not bodies:
            return []
        if (len(bodies), so_far) != (count, digest):
            there = f"{len(bodies)} with digest {so_far} are there"
            self._wrong(seq, model, f"{count} observations led to it with digest {digest}, and {there}")
            return None
        return bodies

    def _same(self, recorded: str, replayed: str, when: str) -> None:
        replayed = exact(replayed)
        if recorded != replayed:
            raise Differs(when + difference(recorded, replayed))

    # ---- what stands today

    def _stands(self, standing: Row) -> None:
        """The deployment of today is what its latest event left, and what was observed since."""
        model, start = standing.model, self.latest.pop(standing.model, None)
        if start is None:
            self._wrong(None, model, "its deployment has no history")
            return
        try:
            stretch = Stretch.from_text(standing.stretch)
            if stretch.since != start.seq:
                self._wrong(start.seq, model, f"its deployment says that event {stretch.since} was its latest")
            elif self.model in (None, model):
                self._open(standing, start, stretch)
        except Differs as differs:
            self._differs(start.seq, model, f"since then: {differs}", stretch.rules)
        except (ValueError, KeyError, TypeError) as error:
            self._wrong(start.seq, model, f"its deployment cannot be read: {type(error).__name__}: {error}")

    def _open(self, standing: Row, start: _Latest, stretch: Stretch) -> None:
        bodies = self._bodies(start.seq, standing.model, start, stretch.observations, stretch.digest)
        if bodies is None:
            return
        if stretch.observations and not bodies:
            self.missing[start.seq] = Pruned(standing.model, stretch.rollout, start.seq, stretch.observations)
            return
        now, _ = replay(start.after or "", bodies, decided=False)
        self._same(exact(standing.body), now, "its deployment today: ")
        if json.loads(now)["revision"] != standing.revision:
            raise Differs(f"its deployment today is at revision {json.loads(now)['revision']}, not {standing.revision}")
        self.report.observations += len(bodies)

    def _forgotten(self) -> None:
        for since, gone in self.missing.items():
            if since in self.pruned:
                self.report.pruned.append(gone)
            else:
                what = f"the {gone.observations} observations that led to it are gone, and no event says that they were"
                self._wrong(gone.seq, gone.model, f"{what} pruned")

    def _differs(self, seq: int, model: str, what: str, rules: str) -> None:
        """Other rules may decide otherwise; the same may not."""
        if rules in ("", rules_digest()):
            self._wrong(seq, model, what)
        else:
            self.report.other_rules.append(Found(seq, model, what))

    def _wrong(self, seq: int | None, model: str, what: str) -> None:
        self.report.wrong.append(Found(seq, model, what))

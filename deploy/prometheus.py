"""Counters that a Prometheus scraped, asked over its HTTP API. Adapter; what its answers mean is evidence/queried.py.

All questions of one look are about one moment, and that is Prometheus' own: our clock and its clock are never compared.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import orjson

from contracts.errors import Unavailable
from contracts.limits import MIB
from deploy.evidence.counters import Looked, Version
from deploy.evidence.queried import (
    Answered,
    Line,
    Serves,
    Target,
    counters_of,
    lines,
    present_of,
    samples,
    scrapes,
    served,
    targets_of,
)

ANSWER_SECONDS = 5.0  # for all questions of one look
ANSWER_BYTES = 64 * MIB  # of one answer; a hundred models with two versions fill a fiftieth of it
MODELS_AT_ONCE = 100  # in one question
QUESTIONS_AT_ONCE = 4
LONG = 64 * 1024  # bytes of an answer from which on reading it is a thread's work


class PrometheusCounters:
    """The port Counters over the Prometheus at `url` (deploy.settings.prometheus_url). Name and password in it are used
    and never shown."""

    def __init__(self, url: str, seconds: float = ANSWER_SECONDS) -> None:
        self._shown = _shown(url)
        self._seconds = seconds
        self._client = httpx.AsyncClient(base_url=url, timeout=seconds)
        self._at_once = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        self._known: dict[Target, Serves] = {}

    async def close(self) -> None:
        await self._client.aclose()

    async def look(self, versions: Collection[Version]) -> Looked:
        """Raises Unavailable when Prometheus does not answer, not in time, or not with what it was asked for."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._look(versions)
        except TimeoutError:
            raise Unavailable(f"Prometheus at {self._shown} did not answer within {self._seconds:g} s") from None

    async def _look(self, versions: Collection[Version]) -> Looked:
        moment = (await self._ask("time()", "scalar", None))[0]
        models = sorted({model for model, _ in versions})
        groups = [models[i : i + MODELS_AT_ONCE] for i in range(0, len(models), MODELS_AT_ONCE)]
        counters = await self._series([counters_of(group) for group in groups], moment)
        wanted = {model for model, _ in versions}
        former = {t: s for t, s in self._known.items() if any(model in wanted for model, _, _ in s)}
        known = former | served(counters)
        states, present = await asyncio.gather(
            self._series([targets_of(known)] if known else [], moment),
            self._series([present_of(known)] if known else [], moment, "vector"),
        )
        targets = scrapes(states, {line.target for line in present}, moment)
        self._known = {target: serves for target, serves in known.items() if target in targets}
        answered = Answered(counters, targets, self._known, moment)
        return Looked(moment, await asyncio.to_thread(samples, answered, versions))

    async def _series(self, questions: Sequence[str], moment: float, kind: str = "matrix") -> list[Line]:
        answers = await asyncio.gather(*(self._ask(question, kind, moment) for question in questions))
        return [line for answer in answers for line in answer]

    async def _ask(self, question: str, kind: str, moment: float | None) -> list[Any]:
        form = {"query": question} | ({} if moment is None else {"time": repr(moment)})
        async with self._at_once:
            status, body = await self._post(form)
        try:
            return await asyncio.to_thread(_read, body, kind) if len(body) > LONG else _read(body, kind)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            said = str(error) if isinstance(error, _Refused) else "with what is no answer of Prometheus"
            raise Unavailable(f"Prometheus at {self._shown} answered {status} {said}") from error

    async def _post(self, form: dict[str, str]) -> tuple[int, bytes]:
        body = bytearray()
        try:
            async with self._client.stream("POST", "/api/v1/query", data=form) as answer:
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > ANSWER_BYTES:
                        raise Unavailable(f"Prometheus at {self._shown} answered more than {ANSWER_BYTES // MIB} MiB")
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise Unavailable(f"Prometheus at {self._shown} does not answer: {said}") from error
        return answer.status_code, bytes(body)


class _Refused(ValueError):
    """Prometheus says why it has no answer, or none that is whole."""


def _read(body: bytes, kind: str) -> list[Any]:
    """A scalar's time and value, or series. Raises ValueError, KeyError, TypeError or IndexError for anything
    else."""
    answer = orjson.loads(body)
    if answer["status"] != "success":
        raise _Refused(f"{answer.get('errorType', 'error')}: {str(answer.get('error', ''))[:200]}")
    if answer.get("warnings"):
        raise _Refused(f"with a warning, so it may not be whole: {str(answer['warnings'][0])[:200]}")
    data = answer["data"]
    if data["resultType"] != kind:
        raise ValueError(f"expected a {kind}")
    result = data["result"]
    return [float(result[0]), float(result[1])] if kind == "scalar" else lines(result)


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

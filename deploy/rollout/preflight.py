"""Would callers of the live version notice a candidate's signature? Looked at before anything starts. Pure.

A candidate must take what is sent today and answer with what is read today; it may take wider shapes and answer more.
"""

from collections.abc import Iterator, Mapping

from contracts.signature import Signature, TensorSpec

_MOST = 5  # problems that are named; who has more has another model


def problems(live: Mapping[str, Signature], candidate: Mapping[str, Signature]) -> tuple[str, ...]:
    """How the candidate's signatures do not fit those of the live version, as sentences; by the signatures' names."""
    found = [said for name, signature in live.items() for said in _against(name, signature, candidate.get(name))]
    more = (f"and {len(found) - _MOST} more",) if len(found) > _MOST else ()
    return (*found[:_MOST], *more)


def _against(name: str, live: Signature, candidate: Signature | None) -> Iterator[str]:
    if candidate is None:
        yield f"signature {name!r} is gone"
        return
    sent = {spec.name: spec for spec in live.inputs}
    for spec in candidate.inputs:
        if (today := sent.pop(spec.name, None)) is None:
            yield f"input {spec.name!r} ({spec}) is new, and nobody sends it"
        elif not _takes(spec, today):
            yield f"input {spec.name!r} is {spec}, where callers send {today}"
    yield from (f"input {spec.name!r} is gone, and callers send it" for spec in sent.values())
    answered = {spec.name: spec for spec in candidate.outputs}
    for today in live.outputs:
        if (there := answered.get(today.name)) is None:
            yield f"output {today.name!r} is gone, and callers read it"
        elif not _takes(today, there):
            yield f"output {today.name!r} is {there}, where callers read {today}"


def _takes(wanted: TensorSpec, given: TensorSpec) -> bool:
    """Whoever expects `wanted` can do with everything that `given` may be."""
    if wanted.dtype != given.dtype:
        return False
    if wanted.shape is None:
        return True
    if given.shape is None or len(given.shape) != len(wanted.shape):
        return False
    return all(here is None or here == there for here, there in zip(wanted.shape, given.shape, strict=True))

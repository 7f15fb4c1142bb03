"""Would callers of the live version notice a candidate's signature? Looked at before anything starts. Pure.

A candidate must take what is sent today and answer with what is read today; it may take wider shapes and answer more.
Where there is only one input, or one output, callers may leave out its name, and what names itself as it pleases (Keras
does) is called differently after every training: that is worth a word and no refusal.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from contracts.signature import Signature, TensorSpec

_MOST = 5  # problems that are named; who has more has another model


def problems(live: Mapping[str, Signature], candidate: Mapping[str, Signature]) -> tuple[str, ...]:
    """How the candidate's signatures do not fit those of the live version, as sentences; by the signatures' names."""
    said = (said for name, signature in live.items() for said in _against(name, signature, candidate.get(name)))
    found = list(dict.fromkeys(said))  # one function may have two names
    more = (f"and {len(found) - _MOST} more",) if len(found) > _MOST else ()
    return (*found[:_MOST], *more)


def renamed(live: Mapping[str, Signature], candidate: Mapping[str, Signature]) -> tuple[str, ...]:
    """What only callers who name an only input or output would notice, as sentences."""
    both = ((signature, candidate[name]) for name, signature in live.items() if name in candidate)
    return tuple(dict.fromkeys(said for here, there in both for said in _renamed(here, there)))


def _renamed(live: Signature, candidate: Signature) -> Iterator[str]:
    for what, here, there in (
        ("input", live.inputs, candidate.inputs),
        ("output", live.outputs, candidate.outputs),
    ):
        if len(here) == len(there) == 1 and here[0].name != there[0].name:
            yield f"{what} {here[0].name!r} is called {there[0].name!r} by it, which callers who name it will notice"


def _called_alike(live: tuple[TensorSpec, ...], candidate: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return (replace(candidate[0], name=live[0].name),) if len(live) == len(candidate) == 1 else candidate


def _against(name: str, live: Signature, candidate: Signature | None) -> Iterator[str]:
    if candidate is None:
        yield f"signature {name!r} is gone"
        return
    candidate = replace(
        candidate,
        inputs=_called_alike(live.inputs, candidate.inputs),
        outputs=_called_alike(live.outputs, candidate.outputs),
    )
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

"""How much more failures clump than independent ones would, measured while two halves of one version are compared.

Heavy users of a sticky split, batches and bursts make failures come together, and evidence that takes them for
independent grows too fast. The factor found here tempers it (relative.py, absolute.py).
"""

from collections.abc import Iterable

from deploy.evidence.blocks import Block


def dispersion(blocks: Iterable[Block]) -> float | None:
    """Pearson's ratio of observed to binomial variance of how failures divide between the arms, over blocks of an A/A
    comparison: 1 for independent units. None when no block had a failure on two populated arms."""
    observed = expected = 0.0
    for block in blocks:
        bad = block.live.bad + block.candidate.bad
        if not bad or not block.live.units or not block.candidate.units:
            continue
        share = block.candidate.units / (block.candidate.units + block.live.units)
        observed += (block.candidate.bad - bad * share) ** 2
        expected += bad * share * (1 - share)
    return observed / expected if expected else None

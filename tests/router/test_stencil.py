"""Models of one sort are filled in rather than built: the bytes are the same."""

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.limits import LIMITS
from router.routes import outline, sort_of
from router.stencil import stencils
from router.table import ModelRoutes
from tests.router.test_snapshot import models

WORDS = st.text("ab|:{}1", min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=3), st.lists(st.one_of(WORDS, st.integers(0, 2)), max_size=8))
def test_what_is_filled_in_is_what_would_have_been_made(texts: list[str], message: list[str | int]) -> None:
    def make(given_texts: tuple[str, ...]) -> tuple[bytes, ...]:
        parts = [given_texts[p % len(given_texts)] if isinstance(p, int) else p for p in message]
        return ("".join(parts).encode(), b"same")

    made = stencils(make, [len(text) for text in texts])
    assert tuple(each.filled([t.encode() for t in texts]) for each in made) == make(tuple(texts))


@settings(max_examples=100, deadline=None)
@given(models())
def test_routes_of_a_model_that_is_filled_in_are_those_that_are_built_for_it(model: ModelRoutes) -> None:
    sort, texts = sort_of(model)
    assert outline(sort, LIMITS).filled(model.model, texts) == sort.built(texts, LIMITS)

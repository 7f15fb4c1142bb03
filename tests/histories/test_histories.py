"""Rollouts that were recorded once end today as they ended then."""

from pathlib import Path

import pytest

from tests.histories.record import FOLDER, FORM, STORIES, replay


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_recorded_rollout_takes_the_same_turns_at_the_same_ticks(path: Path) -> None:
    history = FORM.validate_json(path.read_bytes())
    assert history is not None
    assert replay(history.begun, history.glances) == history.changes


def test_every_story_is_recorded() -> None:
    assert set(STORIES) <= {path.stem for path in FOLDER.glob("*.json")}

"""The page that tells what was answered lately: reads what is asked, and renders what memory.py knows."""

import math
from urllib.parse import parse_qs

import orjson

from contracts.errors import InvalidInput
from contracts.worker import ANSWERS_TOLD
from serving.codec.render import dump
from serving.http.answers import Answer
from serving.memory import Memory


def answers_to(memory: Memory, body: bytes) -> Answer:
    """Raises InvalidInput for a body that names no ids, or too many."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        asked = None
    ids = asked.get("ids") if type(asked) is dict else None
    if type(ids) is not list or len(ids) > ANSWERS_TOLD or not all(type(each) is str for each in ids):
        raise InvalidInput(f'expected {{"ids": [request id, …]}} with at most {ANSWERS_TOLD} of them')
    return Answer(200, dump({"answers": memory.answers_to(ids)}))


def answers_since(memory: Memory, query: bytes) -> Answer:
    """Raises InvalidInput for a share or a moment that is none."""
    asked = parse_qs(query.decode("ascii", "replace"))
    try:
        after, share = float(asked.get("after", ["inf"])[0]), int(asked.get("share", ["1"])[0])
    except ValueError:
        after, share = math.nan, 0
    if math.isnan(after) or share < 1:
        raise InvalidInput("expected after=SECONDS and share=N, a whole number from 1")
    following, answers = memory.answers_since(after, share)
    return Answer(200, dump({"next": following, "answers": answers}))

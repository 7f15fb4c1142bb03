"""The chain of the history: every event's hash covers the event and, through the hash before it, all events before it.

Only the arithmetic. The store appends, verify.py checks, docs/audit.md says how to check it without Teal.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

GENESIS = "0" * 64
"""What stands for the hash before the first event."""

HASHED = ("seq", "at", "actor", "action", "model", "version", "reason", "before", "after", "evidence")
"""The columns of an event that its hash covers. The last three are text, hashed as they are stored."""


def linked(previous: str, record: Mapping[str, Any]) -> str:
    """The hash of an event: sha256 over the bytes of the hash before it and the event as canonical JSON, which has its
    keys in order, no spaces, and \\u escapes for whatever is not ASCII."""
    content = json.dumps({name: record[name] for name in HASHED}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(bytes.fromhex(previous) + content.encode()).hexdigest()

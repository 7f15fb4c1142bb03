"""Names that users type and see: models, versions, labels, colors, roles, and the headers of an answer."""

import re
from enum import StrEnum

from contracts.errors import InvalidInput

MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
MAX_VERSION = 2**63 - 1  # versions travel as int64 in the TensorFlow Serving protocol

HEADER_REQUEST_ID = "x-request-id"
HEADER_KEY = "x-teal-key"
HEADER_TIMEOUT_MS = "x-teal-timeout-ms"
HEADER_ATTEMPT = "x-envoy-attempt-count"  # 2 on a request whose first worker did not answer; Envoy's own word
HEADER_MIRRORED = "x-teal-mirrored"  # "1" on a copy of a request whose answer nobody gets
HEADER_MODEL = "x-teal-model"
HEADER_VERSION = "x-teal-version"
HEADER_COLOR = "x-teal-color"


class Color(StrEnum):
    """A place where a version runs. A version keeps its place as long as it is deployed."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> "Color":
        return Color.GREEN if self is Color.BLUE else Color.BLUE


class Role(StrEnum):
    """What a version is today. Promotion changes roles, never colors."""

    LIVE = "live"
    CANDIDATE = "candidate"
    PREVIOUS = "previous"  # was live before the last promotion and stays warm for the undo window


RESERVED_LABELS = frozenset({"live", "candidate", "blue", "green"})


def check_model_name(name: str) -> str:
    """Return `name` unchanged, or raise InvalidInput naming what a model name may hold.

    No dot at the end: Envoy takes it off a label's value, and the counts of "m." would be those of "m"."""
    if not MODEL_NAME.fullmatch(name) or ".." in name or name.endswith("."):
        raise InvalidInput(
            f"model name {name[:80]!r} is not usable: expected 1 to 63 letters, digits, '_', '-' or single '.', "
            "starting with a letter, a digit or '_', and not ending with '.'"
        )
    return name


def check_version(version: int) -> int:
    """Return `version` unchanged, or raise InvalidInput: versions are whole numbers from 1 to 2^63-1."""
    if not 1 <= version <= MAX_VERSION:
        raise InvalidInput(f"version {version} is not usable: expected a whole number from 1 to {MAX_VERSION}")
    return version

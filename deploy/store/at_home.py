"""Which state belongs to a home, what the home is called in it, and the refusal to begin anew beside packages that an
earlier state still describes.

How the database is opened is database.py's business.
"""

import os
import uuid
from contextlib import suppress

from contracts.errors import Unavailable
from deploy.home import Home
from deploy.store.database import StateUnusable, sqlite_url
from deploy.store.store import KEPT_ROLLOUTS, Store


def open_store(home: Home, state_url: str | None, *, owner: str = "", kept_rollouts: int = KEPT_ROLLOUTS) -> Store:
    """The home's own state, or the one at `state_url`, which several homes may share.

    Raises StateUnusable when the home has packages and its own state is gone or empty: a new state would know none of
    them, and the next start would remove them all as leftovers of killed registrations."""
    if state_url:
        return Store(state_url, owner=owner, kept_rollouts=kept_rollouts)
    kept = [path for path in home.packages.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if kept and not (home.state.exists() and home.state.stat().st_size):
        raise StateUnusable(
            f"the state {home.state} is missing, and only it can name the packages in {home.packages} ({len(kept)}); "
            "nothing was changed. Put a backup of it in place (or set TEAL_STATE_URL as before), or choose another "
            f"--home; to begin anew and give the packages up, remove {home.packages}"
        )
    return Store(sqlite_url(home.state), owner=owner, kept_rollouts=kept_rollouts)


def name_of(home: Home) -> str:
    """What tells this home from others that share a database, wherever it is moved to. Made once.

    Raises Unavailable when the home cannot be written."""
    place, made = home.path / "identity", home.run / f"identity-{uuid.uuid4().hex}"
    try:
        if not place.exists():
            try:
                made.write_text(uuid.uuid4().hex)
                with suppress(FileExistsError):  # of two that make one at once, one wins, and nobody reads half of it
                    os.link(made, place)
            finally:
                made.unlink(missing_ok=True)
        return place.read_text().strip()
    except OSError as error:
        raise Unavailable(f"cannot name the home {home.path}: {error.strerror}; choose another with --home") from error

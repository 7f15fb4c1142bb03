"""Which state belongs to a home, and the refusal to begin anew beside packages that an earlier state still describes.

How the database is opened is database.py's business.
"""

from deploy.home import Home
from deploy.store.database import StateUnusable, sqlite_url
from deploy.store.store import Store


def open_store(home: Home, state_url: str | None) -> Store:
    """The home's own state, or the one at `state_url`.

    Raises StateUnusable when the home has packages and its own state is gone or empty: a new state would know none of
    them, and the next start would remove them all as leftovers of killed registrations."""
    if state_url:
        return Store(state_url)
    kept = [path for path in home.packages.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if kept and not (home.state.exists() and home.state.stat().st_size):
        raise StateUnusable(
            f"the state {home.state} is missing, and only it can name the packages in {home.packages} ({len(kept)}); "
            "nothing was changed. Put a backup of it in place (or set TEAL_STATE_URL as before), or choose another "
            f"--home; to begin anew and give the packages up, remove {home.packages}"
        )
    return Store(sqlite_url(home.state))

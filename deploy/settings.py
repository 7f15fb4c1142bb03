"""What an operator may set through the environment, with defaults that fit one machine. Read once, at the start."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from contracts.errors import InvalidInput

MAX_KEPT_ROLLOUTS = 1000


@dataclass(frozen=True)
class Settings:
    """TEAL_HOST          address that predictions are served on
    TEAL_STATE_URL     database instead of HOME/state.db, such as postgresql://…
    TEAL_ADMIN_HOSTS   host names accepted by the operating port besides loopback ones, separated by commas
    TEAL_PROMETHEUS_URL  where the Prometheus is that rollouts ask for evidence, such as http://127.0.0.1:9090
    TEAL_KEPT_ROLLOUTS  of each model, how many of its latest rollouts can be replayed; their observations are kept
    """

    host: str = "0.0.0.0"  # noqa: S104 - callers of predictions live on other machines; the operating port is loopback
    state_url: str | None = None
    admin_hosts: tuple[str, ...] = ()
    kept_rollouts: int = 10
    prometheus: str | None = None


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Raises InvalidInput for a value that cannot be meant."""
    hosts = tuple(h.strip() for h in environment.get("TEAL_ADMIN_HOSTS", "").split(",") if h.strip())
    for host in hosts:
        if "/" in host or "*" in host:
            raise InvalidInput(f"TEAL_ADMIN_HOSTS: expected host names such as teal.example, got {host!r}")
    kept = environment.get("TEAL_KEPT_ROLLOUTS") or str(Settings.kept_rollouts)
    if not kept.isdecimal() or not 1 <= int(kept) <= MAX_KEPT_ROLLOUTS:
        raise InvalidInput(f"TEAL_KEPT_ROLLOUTS: expected 1 to {MAX_KEPT_ROLLOUTS}, got {kept!r}")
    return Settings(
        host=environment.get("TEAL_HOST") or Settings.host,
        state_url=environment.get("TEAL_STATE_URL") or None,
        admin_hosts=hosts,
        kept_rollouts=int(kept),
        prometheus=prometheus_url(environment.get("TEAL_PROMETHEUS_URL", "")),
    )


def prometheus_url(text: str) -> str | None:
    """Where to ask, without a slash at the end; None for nothing. Raises InvalidInput for what is no such URL, without
    the name and password that may be in it."""
    if not (url := text.strip()):
        return None
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        sound = sound and not parts.query and not parts.fragment
    except ValueError:
        sound = False
    if not sound:
        raise InvalidInput(
            "TEAL_PROMETHEUS_URL or --prometheus: expected a URL such as http://127.0.0.1:9090, "
            f"got {url.rpartition('@')[2][:200]!r}"
        )
    return url.rstrip("/")

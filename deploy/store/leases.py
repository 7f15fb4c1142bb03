"""The row that says which control plane decides. When to take it is deploy/lease.py; here it is read and written."""

from dataclasses import dataclass

from sqlalchemy import Connection, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from contracts.errors import TealError
from deploy.store.schema import lease

_ID = 1


class Fenced(TealError):
    """Another control plane decides since: nothing was written."""

    code = "fenced"


@dataclass(frozen=True)
class Tenure:
    """Who decides. `epoch` grows with every change of hands, `until` is wall seconds and moves with every renewal."""

    holder: str
    epoch: int
    until: float


def read(connection: Connection) -> Tenure | None:
    found = connection.execute(select(lease)).one_or_none()
    return None if found is None else Tenure(found.holder, found.epoch, found.until)


def replace(connection: Connection, former: Tenure | None, following: Tenure) -> bool:
    """Put `following` in the place of exactly `former`; False when something else stands there by now."""
    values = {"holder": following.holder, "epoch": following.epoch, "until": following.until}
    if former is None:
        try:
            connection.execute(insert(lease).values(id=_ID, **values))
        except IntegrityError:
            return False
        return True
    same = and_(lease.c.holder == former.holder, lease.c.epoch == former.epoch, lease.c.until == former.until)
    return connection.execute(update(lease).where(lease.c.id == _ID, same).values(values)).rowcount == 1


def check(connection: Connection, epoch: int) -> None:
    """Hold the row until the end of this transaction, so that nobody takes over before it. Raises Fenced when somebody
    has already."""
    found = connection.execute(select(lease.c.epoch, lease.c.holder).with_for_update()).one_or_none()
    if found is None or found.epoch != epoch:
        now = "nobody" if found is None else f"{found.holder}, epoch {found.epoch}"
        raise Fenced(f"this control plane decided by epoch {epoch}, and {now}, decides now; nothing was written")

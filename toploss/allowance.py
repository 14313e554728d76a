"""How many images may be kept on a day (UTC), among all processes, whatever becomes of them.

What comes with feedback is counted apart from what the service chooses: neither takes the other's
room.
"""

import time

from sqlalchemy import Connection, select, text

from toploss.errors import CapReached
from toploss.home import Home
from toploss.schema import capture_days
from toploss.times import DAY_S


def check(home: Home, *, sent: bool) -> None:
    """Whether one more may be kept today, `sent` with feedback or chosen: for whoever would work
    on it first. Raises CapReached."""
    today = (capture_days.c.day == int(time.time() // DAY_S)) & (capture_days.c.sent == sent)
    with home.db.read() as connection:
        number = connection.execute(select(capture_days.c.kept).where(today)).scalar() or 0
    if number >= home.settings.capture_per_day:
        raise _full(home, sent=sent)


_COUNT = text(
    "INSERT INTO capture_days (day, sent, kept) VALUES (:day, :sent, 1) "
    "ON CONFLICT (day, sent) DO UPDATE SET kept = capture_days.kept + 1 "
    "WHERE capture_days.kept < :most RETURNING kept"
)


def take(connection: Connection, home: Home, *, sent: bool) -> None:
    """One more of today's, among all processes. Raises CapReached."""
    day, most = int(time.time() // DAY_S), home.settings.capture_per_day
    counted = {"day": day, "sent": sent, "most": most}
    number = connection.execute(_COUNT, counted).scalar() if most else None
    if number is None:
        raise _full(home, sent=sent)
    if number == 1:
        connection.execute(capture_days.delete().where(capture_days.c.day < day))


def _full(home: Home, *, sent: bool) -> CapReached:
    most, how = home.settings.capture_per_day, " with feedback" if sent else ""
    return CapReached(
        f"{most} images were kept today{how}, which is all that may be; send it tomorrow (UTC), "
        "or raise TOPLOSS_CAPTURE_PER_DAY",
        retry_after_s=int(DAY_S - time.time() % DAY_S) + 1,
    )

"""Keeping images of production, as the tests of captures do it."""

import time
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.conftest import picture
from toploss import captures
from toploss.captures import Shot, Why
from toploss.home import Home
from toploss.ids import new_id
from toploss.times import DAY_S


def kept(home: Home, seed: int, why: Why = Why.MARGIN, **more: Any) -> str:
    shot = Shot(id=new_id(), data=picture(seed), why=why, **more)
    assert captures.keep(home, shot)
    return shot.id


def listed(home: Home, which: Any = "waiting", **more: Any) -> list[str]:
    rows, total = captures.listed(home, which, **{"limit": 100, **more})
    assert more or total == len(rows)
    return [row["id"] for row in rows]


def number_of(home: Home, what: Any) -> int:
    with home.db.read() as connection:
        return int(connection.execute(select(func.count()).select_from(what)).scalar_one())


def in_days(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + days * DAY_S)

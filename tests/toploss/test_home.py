from concurrent.futures import ThreadPoolExecutor

import pytest

from toploss.errors import BadSettings
from toploss.home import Home
from toploss.preprocess import Limits
from toploss.settings import read_settings


def test_a_missing_home_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("TOPLOSS_HOME", str(tmp_path / "new"))

    home = Home.open()
    home.db.close()

    assert (tmp_path / "new" / "toploss.db").is_file()


def test_a_home_opens_again_with_what_is_in_it(open_home):
    open_home().blobs.put("a", b"kept")

    assert open_home().blobs.get("a") == b"kept"


def test_limits_are_the_settings(open_home):
    assert open_home(max_bytes=5, max_pixels=7).limits == Limits(bytes=5, pixels=7)


def test_a_home_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(BadSettings, match="set TOPLOSS_HOME to one you may write"):
        Home.open(read_settings(home=tmp_path / "file" / "home"))


def test_many_may_open_the_same_new_home(tmp_path):
    settings = read_settings(home=tmp_path / "new")

    with ThreadPoolExecutor(8) as pool:
        homes = list(pool.map(lambda _: Home.open(settings), range(8)))

    for home in homes:
        home.db.close()

"""Where a training may be launched."""

import pytest

from toploss.errors import BadSettings
from toploss.home import Home
from toploss.settings import read_settings
from training.launchers import chosen


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "TOPLOSS_DATABASE_URL=sqlite"),
        ({"database_url": "postgresql+psycopg://u:secret@h/d"}, "TOPLOSS_STORAGE_URL="),
    ],
)
def test_pods_cannot_work_on_files_of_this_machine(
    home: Home, settings: dict[str, str], words: str
) -> None:
    given = read_settings(home=home.settings.home, executor="kubernetes", **settings)

    with pytest.raises(BadSettings, match=words) as refused:
        chosen(Home(given, home.db, home.blobs))

    assert "secret" not in str(refused.value)

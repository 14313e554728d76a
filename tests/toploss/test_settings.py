from pathlib import Path

import pytest

from toploss.errors import BadSettings
from toploss.home import Home
from toploss.settings import available_cores, read_settings


def test_everything_lies_under_home(tmp_path):
    settings = read_settings(home=tmp_path)

    assert settings.database == f"sqlite:///{tmp_path}/toploss.db"
    assert settings.storage == f"{tmp_path}/storage"


def test_the_database_s_url_may_lie_in_a_file(tmp_path):
    file = tmp_path / "database-url"
    file.write_text("postgresql+psycopg://me:secret@db/toploss\n")

    settings = read_settings(home=tmp_path, database_url="sqlite://", database_url_file=file)

    assert settings.database == "postgresql+psycopg://me:secret@db/toploss"
    for content in (b"", b"\xff\xfe", b"two urls"):
        file.write_bytes(content)
        with pytest.raises(
            BadSettings, match=r"TOPLOSS_DATABASE_URL_FILE=.* is not usable"
        ) as told:
            _ = settings.database
        assert "urls" not in str(told.value)
    file.unlink()
    with pytest.raises(BadSettings, match="No such file"):
        _ = settings.database


@pytest.mark.parametrize(
    ("key", "value", "expectation"),
    [
        ("MAX_BYTES", "many", "valid integer"),
        ("MAX_BYTES", "0", "greater than 0"),
        ("MAX_PIXELS", "-5", "greater than 0"),
        ("DEVICE", "tpu", "'auto', 'cpu' or 'cuda'"),
        ("ENGINE", "tensorrt", "'auto', 'ncnn', 'onnx' or 'torch'"),
        ("NAME", "Top Loss", "match pattern"),
        ("NAME", "a" * 64, "at most 63"),
        ("SPLIT", "70/30", "three shares"),
        ("SPLIT", "a/b/c", "three numbers"),
        ("SPLIT", "0/50/50", "the first above 0"),
        ("SPLIT", "80/-10/30", "three shares"),
        ("SPLIT", "50/50/50", "100 together"),
        ("SPLIT", "50/20/20", "add up to 90"),
        ("SPLIT", "nan/50/50", "100"),
        ("SPLIT", "70/nan/15", "100"),
        ("SPLIT", "inf/0/0", "100"),
        ("TRAIN_LR", "fast", "'auto' or a rate"),
        ("TRAIN_LR", "0", "'auto' or a rate"),
        ("TRAIN_LR", "nan", "'auto' or a rate"),
        ("TRAIN_SIZE", "4", "greater than or equal to 8"),
        ("GATE_MARGIN", "2", "less than or equal to 1"),
        ("GATE_CANNOT_TELL", "maybe", "'better', 'hold' or 'promote'"),
        ("RETRAIN_AFTER", "0", "greater than 0"),
        ("RETRAIN_QUIET_S", "nan", "greater than or equal to 0"),
        ("PUBLIC_URL", "toploss.example", "http(s)://HOST"),
        ("ATTEMPTS", "0", "greater than 0"),
    ],
)
def test_a_fault_names_key_value_and_expectation(monkeypatch, key, value, expectation):
    monkeypatch.setenv(f"TOPLOSS_{key}", value)

    with pytest.raises(BadSettings) as caught:
        read_settings()

    message = str(caught.value)
    assert message.startswith(f"TOPLOSS_{key}={value!r} ")
    assert expectation in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HOOK_SECRET", "hunter2"),
        ("NOTIFY_SECRET", "hunter2"),
        ("NOTIFY_URLS", "https://chat.example/ok file:///hunter2"),
        ("NOTIFY_URLS", "https://ann:hunter2@chat.example/"),
        ("NOTIFY_URLS", "https:///hunter2"),
        ("NOTIFY_URLS", "https://chat.example:port/hunter2"),
    ],
)
def test_a_fault_in_a_secret_does_not_show_it(monkeypatch, key, value):
    monkeypatch.setenv(f"TOPLOSS_{key}", value)

    with pytest.raises(BadSettings, match="expected") as caught:
        read_settings()

    assert str(caught.value).startswith(f"TOPLOSS_{key}='(not shown)' ")
    assert "hunter2" not in str(caught.value)


def test_secrets_are_not_told_by_who_shows_the_settings():
    made = read_settings(hook_secret="a-secret-of-twenty-signs-and-more")
    assert "twenty" not in repr(made)


def test_the_environment_wins_over_the_file_and_the_caller_over_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("TOPLOSS_NAME=file\nTOPLOSS_MAX_BYTES=7\nUNRELATED=1\n")
    monkeypatch.setenv("TOPLOSS_NAME", "environment")

    assert (read_settings().name, read_settings().max_bytes) == ("environment", 7)
    assert read_settings(name="caller").name == "caller"


def test_an_empty_variable_is_no_value(monkeypatch):
    monkeypatch.setenv("TOPLOSS_MAX_BYTES", "")

    assert read_settings().max_bytes == 20 * 2**20


def test_home_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))

    assert read_settings(home=Path("here")).home == tmp_path / "here"
    assert read_settings(home=Path("~/there")).home == tmp_path / "me" / "there"


@pytest.mark.parametrize("name", ["two words", "per%20cent", "what?", "a#b", "a&b=c", "größe"])
def test_home_may_have_any_name(tmp_path, name):
    home = Home.open(read_settings(home=tmp_path / name))
    home.blobs.put("a/b", b"c")
    home.db.close()

    assert (tmp_path / name / "toploss.db").is_file()
    assert (tmp_path / name / "storage" / "a" / "b").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_threads_are_counted_once_for_all(tmp_path):
    assert read_settings(home=tmp_path, threads=3).thread_count == 3
    assert read_settings(home=tmp_path).thread_count == available_cores() >= 1

import pytest

from toploss import keys
from toploss.errors import BadInput, BadSettings, NotFound, Refused
from toploss.keys import Ring, Role
from toploss.settings import read_settings


def test_a_key_is_known_by_its_secret_alone(home):
    secret = keys.create(home, "ann", "review")

    ring = Ring.load(home)

    assert secret.startswith("tl_")
    assert len(secret) > 40
    assert ring.holder(secret) == keys.listed(home)[0]
    assert ring.holder(secret).role is Role.REVIEW
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), "tl_\u00e9"):
        assert ring.holder(wrong) is None


def test_only_the_hash_is_stored(home):
    secret = keys.create(home, "ann", "review")

    stored = (home.settings.home / "toploss.db").read_bytes()

    assert secret.encode() not in stored
    assert secret.removeprefix(keys.PREFIX).encode() not in stored


def test_a_revoked_key_is_refused_and_keeps_its_name(home):
    secret = keys.create(home, "ann", "review")
    keys.revoke(home, "ann")

    ring = Ring.load(home)

    assert (ring.holder(secret), ring.ever) == (None, True)
    assert keys.listed(home)[0].revoked_at
    with pytest.raises(Refused, match="there is or was"):
        keys.create(home, "ann", "admin")
    with pytest.raises(Refused, match="revoked before"):
        keys.revoke(home, "ann")
    with pytest.raises(NotFound, match="keys list"):
        keys.revoke(home, "bob")


@pytest.mark.parametrize("name", ["", " ", "-x", "a/b", "a" * 65, "é", "a\n"])
def test_names_that_cannot_be(home, name):
    with pytest.raises(BadInput, match="not usable"):
        keys.create(home, name, "review")


def test_a_role_that_is_none_and_the_file_s_name(home):
    with pytest.raises(BadInput, match="predict, review, admin"):
        keys.create(home, "ann", "root")
    with pytest.raises(Refused):
        keys.create(home, "admin", "admin")


def test_there_never_was_a_key(home):
    assert Ring.load(home) == Ring(keys={}, ever=False)


@pytest.mark.parametrize("role", list(Role))
def test_roles_cover_those_before_them(role):
    order = ["predict", "review", "admin"]
    covered = [other for other in Role if role.covers(other)]
    assert covered == order[: order.index(role) + 1]


def test_the_admin_s_key_in_a_file(open_home, tmp_path):
    file = tmp_path / "key"
    file.write_text("0123456789abcdef0123456789\n")

    ring = Ring.load(open_home(admin_key_file=file))

    assert ring.holder("0123456789abcdef0123456789").role is Role.ADMIN
    assert ring.ever


@pytest.mark.parametrize("content", ["", "short", None])
def test_a_file_without_a_key_is_a_wrong_setting(open_home, tmp_path, content):
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadSettings, match="TOPLOSS_ADMIN_KEY_FILE"):
        Ring.load(open_home(admin_key_file=file))


def test_of_a_file_that_is_not_there_it_is_told_where_it_was_looked_for(
    open_home, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BadSettings, match=f"{tmp_path}/keys.txt' cannot be read"):
        Ring.load(open_home(keys_file="keys.txt"))


def test_every_server_signs_sessions_with_the_same_secret(home):
    assert keys.session_secret(home) == keys.session_secret(home)
    assert len(keys.session_secret(home)) == keys.SECRET_BYTES


def test_keys_of_a_file(tmp_path, home):
    file = tmp_path / "keys"
    secret = keys.create_in_file(file, "shop", "predict")
    assert secret not in file.read_text()
    file.write_text("# of the shop\n" + file.read_text().rstrip("\n"))  # somebody's editor
    other = keys.create_in_file(file, "ann", "review")

    ring = Ring.of_files(read_settings(keys_file=file))

    assert {ring.holder(secret).name, ring.holder(other).name} == {"shop", "ann"}
    assert ring.holder(other).role is Role.REVIEW
    with pytest.raises(Refused, match="'shop'"):
        keys.create_in_file(file, "shop", "predict")


def test_a_file_s_keys_stand_beside_the_database_s(open_home, tmp_path):
    file = tmp_path / "keys"
    of_file = keys.create_in_file(file, "shop", "predict")
    home = open_home(keys_file=file)
    of_database = keys.create(home, "ann", "admin")

    assert {key.name for key in Ring.load(home).keys.values()} == {"shop", "ann"}
    assert Ring.load(home).holder(of_file)
    assert Ring.load(home).holder(of_database)


def test_equal_names_in_the_file_and_the_database_are_told_apart(open_home, tmp_path):
    file = tmp_path / "keys"
    of_file = [keys.create_in_file(file, name, "review") for name in ("ann", "bob", "eve")]
    unaware = open_home()
    of_database = keys.create(unaware, "ann", "review")
    keys.create(unaware, "bob", "review")
    keys.revoke(unaware, "bob")  # it keeps its name: decisions carry it

    ring = Ring.load(open_home(keys_file=file))

    assert [ring.holder(secret).name for secret in of_file] == ["ann@file", "bob@file", "eve"]
    assert ring.holder(of_database).name == "ann"


def test_a_name_of_the_file_is_taken(open_home, tmp_path):
    file = tmp_path / "keys"
    keys.create_in_file(file, "ann", "review")

    with pytest.raises(Refused, match=f"'ann' in {file}; take another"):
        keys.create(open_home(keys_file=file), "ann", "review")


@pytest.mark.parametrize("line", ["shop", "shop predict", "shop king " + "a" * 64, "a b c", "\0"])
def test_a_line_that_is_no_key_is_told_by_its_number(tmp_path, line):
    file = tmp_path / "keys"
    file.write_text(f"# one\n{line}\n")
    with pytest.raises(BadSettings, match=r"TOPLOSS_KEYS_FILE=.*line 2"):
        Ring.of_files(read_settings(keys_file=file))


def test_a_file_without_a_line_lets_nobody_in(tmp_path):
    file = tmp_path / "keys"
    file.touch()
    assert Ring.of_files(read_settings(keys_file=file)) == Ring(keys={}, ever=True)

import base64
import hmac
from hashlib import sha256

import pytest

from toploss import signing

# The example of the standard's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
GIVEN = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
OTHER = "another secret, of spaces".replace(" ", "-")


def test_it_is_the_standard_s():
    assert signing.headers(SECRET, GIVEN["webhook-id"], BODY, at=1614265330.9) == GIVEN
    signed = signing.verified([OTHER, SECRET], GIVEN, BODY)
    assert signed.id == GIVEN["webhook-id"]
    assert signed.off_s(1614265430) == 100
    assert signed.off_s(1614265030) == 300


def test_github_s_is_read():
    mac = hmac.new(OTHER.encode(), BODY, sha256).hexdigest()
    assert signing.verified([OTHER], {"x-hub-signature-256": f"sha256={mac}"}, BODY).id is None
    assert signing.verified([SECRET], {"x-hub-signature-256": f"sha256={mac}"}, BODY) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_other"},
        {"webhook-id": ""},
        {"webhook-id": "é"},
        {"webhook-id": "x" * 101},
        {"webhook-timestamp": "1614265331"},
        {"webhook-timestamp": "01614265330"},
        {"webhook-timestamp": "-1"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "\u00b2"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": GIVEN["webhook-signature"][:-2] + "0="},
        {"x-hub-signature-256": "sha256=0"},
    ],
)
def test_what_was_changed_is_nobody_s(changed):
    if "x-hub-signature-256" in changed:
        assert signing.verified([SECRET], changed, BODY) is None
    else:
        assert signing.verified([SECRET], GIVEN | changed, BODY) is None


def test_another_body_or_secret_is_nobody_s():
    assert signing.verified([SECRET], GIVEN, BODY + b" ") is None
    assert signing.verified([OTHER], GIVEN, BODY) is None
    assert signing.verified([], GIVEN, BODY) is None
    assert signing.verified([SECRET], {}, BODY) is None


def test_of_several_signatures_one_is_enough():
    wrong = base64.b64encode(b"0" * 32).decode()
    several = f"v1,{wrong} {GIVEN['webhook-signature']}"
    assert signing.verified([SECRET], GIVEN | {"webhook-signature": several}, BODY)


def test_without_a_secret_nothing_is_signed():
    assert set(signing.headers("", "id", BODY)) == {"webhook-id", "webhook-timestamp"}

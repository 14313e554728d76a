"""Messages brought to a receiver of real sockets, that fails, hangs and drops."""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from toploss import outbox, signing
from toploss.home import Home
from toploss.outbox import Type
from training import postman
from training.postman import Postman

SECRET = "a-secret-of-the-receiver-s"


class Receiver:
    """Answers as it is told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.behaves: list[str] = []  # one after the other; then well
        self.got: list[tuple[dict[str, str], bytes]] = []
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                headers = {key.lower(): value for key, value in self.headers.items()}
                received.got.append((headers, data))
                how = received.behaves.pop(0) if received.behaves else "200"
                if how == "drop":
                    self.connection.close()
                elif how == "hang":
                    time.sleep(1)
                elif how == "drip":
                    for _ in range(20):
                        self.wfile.write(b"H")
                        time.sleep(0.1)
                else:
                    self.send_response(int(how))
                    host, port = self.server.server_address[:2]
                    self.send_header("Location", f"http://{host!s}:{port}/on")
                    self.end_headers()

            def do_GET(self) -> None:
                raise AssertionError("a redirect was followed")

            def log_message(self, *_: Any) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):  # who asked has hung up, or we have
                    super().handle()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/hidden"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def telling(open_home: Callable[..., Home], receiver: Receiver) -> Home:
    return open_home(
        notify_urls=receiver.url, notify_secret=SECRET, public_url="https://toploss.example/"
    )


def happened(home: Home, reason: str = "the disk is full") -> None:
    data = {"run": "run-1", "version": None, "reason": reason, "metrics": None}
    with home.db.write() as connection:
        outbox.put(connection, Type.FAILED, data)


def test_a_message_is_signed_and_small(telling: Home, receiver: Receiver) -> None:
    happened(telling)

    assert Postman(telling).step() == 1

    ((headers, data),) = receiver.got
    signed = signing.verified([SECRET], headers, data)
    assert signed is not None
    assert signed.off_s() < 5
    told = json.loads(data)
    assert told["type"] == "run.failed"
    assert told["at"].endswith("Z")
    assert told["data"] == {
        "name": "toploss",
        "run": "run-1",
        "version": None,
        "reason": "the disk is full",
        "metrics": None,
        "links": {"run": "https://toploss.example/runs/run-1"},
    }
    assert outbox.counts(telling) == (0, 0)


@pytest.mark.parametrize("how", ["500", "429", "404", "301", "307", "drop", "hang", "drip"])
def test_what_does_not_arrive_is_brought_again_under_its_id(
    telling: Home,
    receiver: Receiver,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(postman, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(postman, "LIMIT_S", 0.6)
    receiver.behaves = [how]
    happened(telling)
    bringing = Postman(telling)

    with caplog.at_level(logging.INFO, "toploss.postman"):
        assert bringing.step() == 0
        assert bringing.step() == 0, "not at once"
        assert outbox.counts(telling) == (1, 0)
        assert bringing.step(now=time.time() + 30) == 1

    first, second = (headers["webhook-id"] for headers, _ in receiver.got)
    assert first == second
    assert "outcome=failed" in caplog.text
    assert "outcome=told" in caplog.text
    assert "hidden" not in caplog.text
    assert SECRET not in caplog.text


def test_one_that_is_away_holds_no_other_up(open_home: Callable[..., Home]) -> None:
    well, away = Receiver(), Receiver()
    away.server.server_close()
    home = open_home(notify_urls=f"{away.url} {well.url}")
    for number in range(3):
        happened(home, str(number))
    bringing = Postman(home)

    assert [bringing.step() for _ in range(4)] == [1, 1, 1, 0]

    assert [json.loads(data)["data"]["reason"] for _, data in well.got] == ["0", "1", "2"]
    assert outbox.counts(home) == (3, 0)
    assert "webhook-signature" not in well.got[0][0]
    well.server.shutdown()
    well.server.server_close()
    away.server.shutdown()


def test_a_chat_gets_a_line(open_home: Callable[..., Home], receiver: Receiver) -> None:
    home = open_home(notify_urls=f"text+{receiver.url}", public_url="https://toploss.example")
    happened(home)

    Postman(home).step()

    ((_, data),) = receiver.got
    assert json.loads(data) == {
        "text": "toploss: run …run-1 has failed: the disk is full\n"
        "https://toploss.example/runs/run-1"
    }


@pytest.mark.parametrize("type", list(Type))
def test_everything_has_its_words(type: Type) -> None:
    data = {"run": "r" * 26, "version": "v" * 26, "metrics": {"test": {"accuracy": 0.5}}}
    told = {"type": type, "data": data | {"name": "waste", "reason": "why", "links": {}}}
    assert postman.text(told).startswith("waste: ")
    assert "(test accuracy 0.500): why" in postman.text(told)


def test_beside_a_dispatcher(telling: Home, receiver: Receiver) -> None:
    with Postman(telling).beside():
        happened(telling)
        deadline = time.monotonic() + 10
        while not receiver.got:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_of_two_dispatchers_one_brings_it(telling: Home, receiver: Receiver) -> None:
    for number in range(5):
        happened(telling, str(number))
    until = time.monotonic() + 30

    def bring() -> None:
        postman = Postman(telling)
        while len(receiver.got) < 5 and time.monotonic() < until:
            postman.step()
        postman.step()  # nothing is left

    both = [threading.Thread(target=bring) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()

    said = [json.loads(data)["data"]["reason"] for _, data in receiver.got]
    assert said == ["0", "1", "2", "3", "4"]

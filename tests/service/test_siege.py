"""A real server under everything at once: broken framing, slow senders, the whole corpus. It
answers each as documented or hangs up, does not grow, and still answers right at the end."""

import contextlib
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.service.conftest import plain
from tests.service.hostile import BOUNDARY, corpus, good
from tests.service.running import Server, served

HOST = "127.0.0.1"
LONGEST_S = 20.0  # until an answer or the end of the connection
GROWTH_MB = 150  # a corpus holds bombs of 50 MB and more

IMAGE = good("JPEG")
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def request(
    *headers: str, body: bytes = b"", path: str = "/predict", version: str = "HTTP/1.1"
) -> bytes:
    lines = [f"POST {path} {version}", f"Host: {HOST}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


JPEG = "Content-Type: image/jpeg"
SIZED = f"Content-Length: {len(IMAGE)}"
STREAMED = "Transfer-Encoding: chunked"

# Name, bytes to send, statuses that may come of it; 0: hung up without a word.
RAW: list[tuple[str, bytes, set[int]]] = [
    ("no length", request(JPEG, body=IMAGE), {0, 400, 411}),
    ("length too short", request(JPEG, "Content-Length: 100", body=IMAGE), {0, 400}),
    ("a length of none", request(JPEG, "Content-Length: ", body=IMAGE), {0, 400}),
    ("a negative length", request(JPEG, "Content-Length: -1", body=IMAGE), {0, 400}),
    ("a length in words", request(JPEG, "Content-Length: many", body=IMAGE), {0, 400}),
    ("a length with a sign", request(JPEG, f"Content-Length: +{len(IMAGE)}", body=IMAGE), {0, 400}),
    ("an endless length", request(JPEG, "Content-Length: " + "9" * 400), {0, 400, 413}),
    ("a length of 2^64", request(JPEG, f"Content-Length: {2**64}"), {0, 400, 413}),
    ("a length of 1 TB", request(JPEG, f"Content-Length: {10**12}"), {413}),
    ("two lengths", request(JPEG, SIZED, "Content-Length: 5", body=IMAGE), {0, 400}),
    ("length and chunks", request(JPEG, SIZED, STREAMED, body=chunked(IMAGE, b"")), {0, 200, 400}),
    ("chunks", request(JPEG, STREAMED, body=chunked(IMAGE[:200], IMAGE[200:], b"")), {200}),
    ("small chunks", request(JPEG, STREAMED, body=chunked(*[b"x"] * 3000, b"")), {400}),
    ("a chunk's size in words", request(JPEG, STREAMED, body=b"many\r\nx\r\n"), {0, 400}),
    ("a negative chunk", request(JPEG, STREAMED, body=b"-5\r\nx\r\n"), {0, 400}),
    ("a chunk of 2^64", request(JPEG, STREAMED, body=b"ffffffffffffffffff\r\nx"), {0, 400, 408}),
    ("a chunk without its end", request(JPEG, STREAMED, body=b"5\r\nabcdefgh"), {0, 400}),
    ("odd encoding", request(JPEG, "Transfer-Encoding: rot13", body=IMAGE), {0, 400, 501}),
    (
        "gzip that is none",
        request(JPEG, SIZED, "Content-Encoding: gzip", body=IMAGE),
        {200, 400, 415},
    ),
    ("no request", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), {0, 400}),
    ("rubbish", bytes(range(256)) * 40 + b"\r\n\r\n", {0, 400}),
    ("a line without end", b"POST /" + b"a" * 300_000, {0, 400, 401, 403, 404, 413, 414, 431}),
    ("a header without end", request("X: " + "a" * 300_000), {0, 400, 431}),
    ("many headers", request(*[f"X-{n}: y" for n in range(5000)]), {0, 400, 411, 413, 415, 431}),
    ("a header without a colon", request("rubbish", SIZED, body=IMAGE), {0, 400}),
    ("a header's name with a space", request("Content Length : 5"), {0, 400}),
    ("noughts in a header", request("X: a\0b", JPEG, SIZED, body=IMAGE), {0, 200, 400}),
    ("HTTP/0.9", b"GET /livez\r\n\r\n", {0, 400, 403}),
    ("HTTP/9.9", request(JPEG, SIZED, body=IMAGE, version="HTTP/9.9"), {0, 200, 400, 505}),
    ("HTTP/2 at once", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(40), {0, 400, 405, 404, 403}),
    (
        "a proxy's request",
        request(JPEG, SIZED, body=IMAGE, path="http://169.254.169.254/"),
        {0, 400, 403, 404, 405},
    ),
    (
        "CONNECT",
        b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        {0, 400, 403, 404, 405},
    ),
    (
        "an upgrade",
        request("Connection: Upgrade", "Upgrade: websocket", SIZED, JPEG, body=IMAGE),
        {0, 200, 400, 403, 426},
    ),
    ("to be continued", request(JPEG, SIZED, "Expect: 100-continue", body=IMAGE), {100, 200}),
    (
        "a form without its end",
        request(
            f"Content-Type: {FORM}",
            "Content-Length: 60",
            body=f"--{BOUNDARY}\r\nContent-Disposition: form-data; na".encode()[:60].ljust(60),
        ),
        {400},
    ),
    (
        "two requests, the second bad",
        request(JPEG, SIZED, body=IMAGE) + b"RUBBISH\r\n\r\n",
        {200, 400},
    ),
    (
        "a second request smuggled",
        request(
            JPEG,
            "Content-Length: 4",
            STREAMED,
            body=b"0\r\n\r\nPOST /v1/classes HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        ),
        {0, 400},
    ),
]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, unserved: tuple[Path, list[str]]
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("siege")
    shutil.copytree(unserved[0], folder / "home")
    with served(folder, TOPLOSS_TIMEOUT_S="2") as running:
        yield running


def told(server: Server, data: bytes, *, close: bool = False, wait_s: float = 0.6) -> list[int]:
    """The statuses that come back for these bytes; none: it was hung up without a word."""
    with connected(server) as line:
        try:
            line.sendall(data)
            if close:
                line.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has hung up already
        return statuses(line, wait_s)


def connected(server: Server) -> socket.socket:
    line = socket.create_connection((HOST, server.client.base_url.port), timeout=LONGEST_S)
    line.settimeout(LONGEST_S)
    return line


def statuses(line: socket.socket, wait_s: float = 0.6) -> list[int]:
    """Of every answer that comes, until it is hung up or quiet for a while after one."""
    heard = b""
    try:
        while part := line.recv(65536):
            heard += part
            line.settimeout(wait_s)
    except TimeoutError:
        assert heard, "neither an answer nor the end of the connection"
    except OSError:
        pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", heard)]


def right(server: Server) -> bool:
    answer = server.client.post("/predict", files={"image": plain("red")})
    return answer.status_code == 200 and answer.json()["label"] == "red"


# By name: a request that is answered, what is sent after it.
LINGERING = {
    "an empty line": (b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"\r\n"),
    "a body that nobody reads": (request(JPEG, "Content-Length: 100000", path="/nothing"), b"x"),
}


@pytest.fixture(scope="module")
def lingering(server: Server) -> "Iterator[dict[str, Future[None]]]":
    """Those who stay after an answer, until they are hung up on: beside the tests that wait too."""

    def stay(first: bytes, then: bytes) -> None:
        with connected(server) as line:
            line.sendall(first)
            assert statuses(line)
            line.settimeout(LONGEST_S)
            line.sendall(then)
            while line.recv(65536):
                pass

    with ThreadPoolExecutor() as threads:
        yield {name: threads.submit(stay, *said) for name, said in LINGERING.items()}


@pytest.fixture(scope="module")
def broken(server: Server) -> "dict[tuple[str, bool], Future[list[int]]]":
    """What comes back for each, sent eight at a time: most of it is waiting for silence."""
    with ThreadPoolExecutor(8) as senders:
        return {
            (name, close): senders.submit(told, server, data, close=close)
            for name, data, _ in RAW
            for close in (False, True)
        }


@pytest.mark.parametrize(
    ("name", "expected"), [(n, e) for n, _, e in RAW], ids=[n for n, *_ in RAW]
)
def test_broken_framing(
    server: Server,
    broken: "dict[tuple[str, bool], Future[list[int]]]",
    name: str,
    expected: set[int],
) -> None:
    for close in (False, True):
        found = broken[name, close].result() or [0]
        assert not [status for status in found if status >= 500 and status not in (501, 505)], found
        assert set(found) & expected or (close and found == [0]), found
    assert right(server)


@pytest.mark.usefixtures("lingering")
def test_a_head_that_never_ends_is_hung_up_on(server: Server) -> None:
    """A byte now and then, and ever more of a line: neither time nor memory is taken."""
    with connected(server) as slow, connected(server) as silent, connected(server) as long:
        began = time.monotonic()
        slow.sendall(b"POST /predict HTTP/1.1\r\nX-A: ")
        with contextlib.suppress(OSError):
            for _ in range(40):
                long.sendall(b"GET /" + b"a" * 10_000)
        assert statuses(long) in ([400], [431], [])
        while time.monotonic() < began + 8:
            slow.sendall(b"a")
            time.sleep(1)
        assert statuses(slow) == [408]
        assert statuses(silent) == [], "who asked nothing is told nothing"
    assert right(server)


@pytest.mark.parametrize("name", LINGERING)
def test_after_an_answer_nobody_is_waited_for_for_ever(
    lingering: "dict[str, Future[None]]", name: str
) -> None:
    lingering[name].result()


def test_a_large_head_in_one_piece_and_one_of_a_common_size(server: Server) -> None:
    many = [f"X-{number}: {'y' * 1000}" for number in range(90)]
    assert told(server, request(*many, JPEG, SIZED, body=IMAGE)) in ([431], [])
    assert told(server, request(*many[:40], JPEG, SIZED, body=IMAGE)) == [200]
    with connected(server) as line:  # the same in small pieces
        whole = request(*many[:40], JPEG, SIZED, body=IMAGE)
        for start in range(0, len(whole), 5000):
            line.sendall(whole[start : start + 5000])
        assert statuses(line) == [200]


def test_a_body_that_comes_with_an_upgrade_is_no_request(server: Server) -> None:
    inner = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
    sized = f"Content-Length: {len(inner)}"
    assert told(server, request(*upgrade, JPEG, sized, body=inner)) == [400]
    assert told(server, request(*upgrade, JPEG) + inner)[0] in (400, 415)


def test_an_answer_under_way_is_heard_before_rubbish_after_it_is(server: Server) -> None:
    good = request(JPEG, SIZED, body=IMAGE)
    rubbish = b"RUBBISH\r\n\r\n"
    assert told(server, good + rubbish, wait_s=10)[0] == 200
    assert told(server, good + good + rubbish, wait_s=10)[:2] == [200, 200]


def test_who_announces_more_than_he_sends_is_hung_up_on(server: Server) -> None:
    data = request(JPEG, f"Content-Length: {len(IMAGE) + 100}", body=IMAGE)
    began = time.monotonic()
    assert told(server, data) == [408]
    assert time.monotonic() - began < 10


def test_slow_senders_take_no_place_from_others(server: Server) -> None:
    """Fifty that send a byte now and then, while somebody asks as usual."""
    lines = [connected(server) for _ in range(50)]
    for line in lines:
        line.sendall(request(JPEG, "Content-Length: 5000"))
    ended = time.monotonic() + 3
    asked = 0
    while time.monotonic() < ended:
        for line in lines[::5]:
            with contextlib.suppress(OSError):
                line.sendall(b"x")
        assert right(server)
        assert server.client.get("/livez").status_code == 200
        asked += 1
    assert asked >= 5
    for line in lines:
        with line:
            assert statuses(line, wait_s=0.1) in ([408], [])


def test_who_hangs_up_leaves_nothing(server: Server) -> None:
    for cut in (10, 60, 100, 300):
        for _ in range(20):
            with connected(server) as line:
                line.sendall(request(JPEG, SIZED, body=IMAGE)[:cut])
    for _ in range(20):
        with connected(server) as line:
            line.sendall(request(JPEG, SIZED, body=IMAGE))
    assert right(server)


def test_the_whole_corpus_leaves_it_as_it_was(server: Server) -> None:
    def resident_mb() -> float:
        return sum(process.memory_info().rss for process in server.family()) / 2**20

    def send_all() -> None:
        for sent in corpus():
            headers = {name: value.encode("utf-8") for name, value in sent.headers.items()}
            try:
                answer = server.client.request(
                    sent.method,
                    sent.path,
                    content=sent.body,
                    headers=headers,  # type: ignore[arg-type]  # bytes are taken as well
                )
            except psutil.Error:
                raise
            except Exception as exc:  # the client's own: it refuses to send such a line
                refusals.append((sent.name, repr(exc)))
                continue
            if answer.status_code >= 500 and answer.status_code not in (503, 504):
                wrong.append((sent.name, answer.status_code))

    wrong: list[tuple[str, int]] = []
    refusals: list[tuple[str, str]] = []
    send_all()  # what a first time costs is no growth
    before = resident_mb()
    beside = threading.Thread(target=send_all)
    beside.start()
    send_all()
    beside.join()
    assert wrong == []
    assert len(refusals) < 30, refusals[:5]
    assert resident_mb() - before < GROWTH_MB
    assert right(server)
    log = server.log.read_text()
    assert "outcome=bug" not in log
    assert "Traceback" not in log

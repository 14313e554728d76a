"""What a folder and a bucket have each of its own, and how both say that they are away."""

import multiprocessing
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import boto3
import pytest
from botocore.exceptions import ClientError
from s3fs import S3FileSystem

from toploss import stores
from toploss.blobs import Blobs
from toploss.errors import BadSettings, Broken


@pytest.fixture
def bucket(new_s3):
    made = new_s3()
    return Blobs(made["storage_url"], endpoint=made["s3_endpoint_url"])


class Refusing(BaseHTTPRequestHandler):
    """An S3 that says to each what Amazon's says to a wrong key."""

    protocol_version = "HTTP/1.1"  # which a client that waits for 100 Continue needs

    def answer(self):
        told = b"<Error><Code>InvalidAccessKeyId</Code><Message>No such key</Message></Error>"
        self.close_connection = True
        self.send_response(403)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(told)

    do_GET = do_HEAD = do_PUT = do_DELETE = answer  # noqa: N815 (their names are the library's)

    def log_message(self, *_):
        pass


@pytest.fixture
def refusing():
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def refusals(blobs, tmp_path):
    """What each use of a storage that is away says."""
    (tmp_path / "file").write_bytes(b"bytes")
    uses = {
        "read": lambda: blobs.get("a"),
        "looked for": lambda: blobs.exists("a"),
        "written": lambda: blobs.put("a", b"b"),
        "copied": lambda: blobs.put_file("a", tmp_path / "file"),
        "removed": lambda: blobs.delete(["a"]),
    }
    for use in uses.values():
        with pytest.raises(Broken, match="storage s3://") as told:
            use()
        yield str(told.value)


def test_a_folder_keeps_nothing_but_whole_files(tmp_path):
    blobs = Blobs(str(tmp_path / "storage"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: blobs.put("file", bytes([n]) * 100_000), range(20)))

    assert [path.name for path in Path(blobs.root).iterdir()] == ["file"]
    assert blobs.folder == tmp_path / "storage"


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(Broken, match=r"a/b cannot be written to the storage .*TOPLOSS_STORAGE_URL"):
        Blobs(str(tmp_path / "file")).put("a/b", b"")


@pytest.mark.parametrize("url", ["ftpx://nowhere", "s4://bucket", "memory://x", "s3://", "s3:///x"])
def test_an_unknown_kind_of_storage_is_told(url):
    with pytest.raises(BadSettings, match=f"TOPLOSS_STORAGE_URL='{url}' .*s3://bucket/prefix"):
        Blobs(url)


def test_objects_have_their_plain_names(bucket, new_s3):
    """In the path, so that a store with one host name finds the bucket; and below the prefix."""
    bucket.put("a/b", b"bytes")

    assert bucket.folder is None
    name, key = bucket.root.removeprefix("s3://").split("/", 1)
    client = boto3.client("s3", endpoint_url=new_s3()["s3_endpoint_url"])
    assert client.get_object(Bucket=name, Key=f"{key}/a/b")["Body"].read() == b"bytes"


@pytest.fixture
def versioned(bucket, new_s3):
    """A bucket that keeps old versions, and what they are: path → contents; of a mark, None."""
    name, _, prefix = bucket.root.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=new_s3()["s3_endpoint_url"])
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    def kept():
        found = {}
        page = client.list_object_versions(Bucket=name)
        for one in page.get("Versions", []):
            this = {"Key": one["Key"], "VersionId": one["VersionId"]}
            content = client.get_object(Bucket=name, **this)["Body"].read()
            found.setdefault(one["Key"].removeprefix(f"{prefix}/"), []).append(content)
        for one in page.get("DeleteMarkers", []):
            found.setdefault(one["Key"].removeprefix(f"{prefix}/"), []).append(None)
        return found

    return bucket, kept


def test_what_is_forgotten_leaves_no_old_version(versioned, monkeypatch):
    bucket, kept = versioned
    ask = S3FileSystem.call_s3

    def call_s3(self, method, **asked):
        """Two at a time."""
        few = {"MaxKeys": 2} if method == "list_object_versions" else {}
        return ask(self, method, **asked, **few)

    monkeypatch.setattr(S3FileSystem, "call_s3", call_s3)
    for content in (b"1", b"2"):
        bucket.put("a", content)
        bucket.put("ab", content)  # begins like it
    bucket.delete(["a"])
    bucket.put("a", b"3")
    assert len(kept()["a"]) == 4

    assert bucket.forget(["a", "never there"]) is None

    assert kept() == {"ab": [b"2", b"1"]}
    assert bucket.forget_old("", ("b",)) is None  # another folder's
    bucket.put("v/x-report", b"old")
    bucket.put("v/x-report", b"new")
    bucket.put("v/features", b"gone")
    bucket.put("v/weights", b"gone too")
    bucket.put("vv/report", b"old")
    bucket.put("vv/report", b"new")
    bucket.delete(["v/features", "v/weights"])
    bucket.forget_old("v", ("report", "features"))
    found = kept()
    assert found["v/x-report"] == [b"new"]
    assert [content for content in found["v/features"] if content] == []
    assert found["v/weights"] == [b"gone too", None]
    assert len(found["vv/report"]) == 2


def test_where_old_versions_cannot_be_seen_it_is_said(versioned, new_s3, monkeypatch):
    bucket, kept = versioned
    plain = Blobs(new_s3()["storage_url"], endpoint=new_s3()["s3_endpoint_url"])
    denied = {"list_object_versions"}
    ask = S3FileSystem.call_s3

    def call_s3(self, method, **asked):
        if method in denied:
            cause = ClientError({"Error": {"Code": "AccessDenied"}}, method)
            raise PermissionError("no") from cause
        return ask(self, method, **asked)

    monkeypatch.setattr(S3FileSystem, "call_s3", call_s3)
    for blobs in (bucket, plain):
        blobs.put("a", b"1")

    assert plain.forget(["a"]) is None  # it keeps none, as it says itself
    with pytest.raises(Broken, match="s3:ListBucketVersions and s3:DeleteObjectVersion"):
        bucket.forget(["a"])
    denied.add("get_bucket_versioning")
    assert bucket.forget(["a"]) == stores.DOUBT
    denied.clear()
    assert bucket.forget(["a"]) is None
    assert kept() == {}


def test_processes_that_were_forked_have_connections_of_their_own(bucket):
    bucket.put("a", b"parent")  # it is connected by now
    fork = multiprocessing.get_context("fork")
    ends, found = fork.Queue(), []
    work = [fork.Process(target=_in_child, args=(bucket, n, ends)) for n in range(3)]
    for process in work:
        process.start()
    found = sorted(ends.get(timeout=60) for _ in work)
    for process in work:
        process.join(30)

    assert [process.exitcode for process in work] == [0, 0, 0]
    assert found == [b"parent"] * 3
    assert [bucket.get(f"child/{n}") for n in range(3)] == [b"0", b"1", b"2"]


def _in_child(blobs, number, ends):
    blobs.put(f"child/{number}", str(number).encode())
    ends.put(blobs.get("a"))


def test_a_bucket_that_is_not_there_is_told(new_s3, tmp_path):
    blobs = Blobs("s3://no-such-bucket/x", endpoint=new_s3()["s3_endpoint_url"])

    for use in (lambda: blobs.get("a"), lambda: blobs.put("a", b"b"), lambda: blobs.delete(["a"])):
        with pytest.raises(
            Broken, match=r"there is no bucket 'no-such-bucket'\); check TOPLOSS_ST"
        ):
            use()


def test_an_endpoint_that_nobody_listens_at_is_told(new_s3, tmp_path):
    new_s3()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    blobs = Blobs("s3://bucket/x", endpoint=f"http://127.0.0.1:{port}")

    for told in refusals(blobs, tmp_path):
        assert f"127.0.0.1:{port}" in told
        assert "check TOPLOSS_STORAGE_URL, TOPLOSS_S3_ENDPOINT_URL" in told


def test_an_endpoint_that_never_answers_is_given_up(new_s3, monkeypatch):
    new_s3()
    monkeypatch.setattr(stores, "ANSWER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        blobs = Blobs("s3://bucket/x", endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(Broken, match=r"storage s3://bucket/x .*imeout"):
            blobs.get("a")

    assert time.monotonic() - began < 30


def test_no_key_is_told(new_s3, tmp_path, monkeypatch):
    made = new_s3()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    blobs = Blobs(made["storage_url"], endpoint=made["s3_endpoint_url"])

    for told in refusals(blobs, tmp_path):
        assert "Unable to locate credentials" in told
        assert "AWS_" in told


def test_a_key_that_is_refused_is_told(new_s3, tmp_path, refusing):
    for told in refusals(Blobs("s3://bucket/x", endpoint=refusing), tmp_path):
        assert "the key is refused or lacks the right" in told

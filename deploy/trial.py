"""The images, tried as they are run: as their own user, with the demo's loop by HTTP, and a look
at every file before and after. Called by deploy/image.sh.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from demo import digits
from toploss.settings import read_settings

PORT = 3918
UID = 10001
POSTED = 90
KEY = "the-trial-s-key-of-an-admin"
TRAIN = ["train", "--arch", "resnet18", "--weights", "none", "--size", "32", "--batch-size", "32"]
TRAIN += ["--epochs-head", "3", "--epochs-all", "3", "--lr", "3e-3", "--no-flip"]
SETTINGS = {
    "TOPLOSS_RETRAIN_QUIET_S": "5",
    "TOPLOSS_RETRAIN_COOLDOWN_S": "0",
    "TOPLOSS_GATE_CANNOT_TELL": "promote",
    "BENTOML_PORT": str(PORT),
}
# Where buildah keeps files of its own for as long as a command runs: the folder's time and size are
# not ours. What would be left in it is still seen.
BUILDAHS = "run"
File = tuple[int, int, int, int, int, str]  # mode, user, group, size, time, hash or target


@dataclass
class Container:
    """A root file system made of an image, and what is mounted into it."""

    buildah: list[str]
    name: str
    root: Path
    entrypoint: list[str]
    mounts: dict[Path, str]
    log: Path  # what those say that are started
    before: dict[str, File] = field(default_factory=dict)

    @classmethod
    def of(cls, buildah: list[str], image: str, mounts: dict[Path, str], log: Path) -> "Container":
        name = _said([*buildah, "from", image])
        root = Path(_said([*buildah, "mount", name]))
        config = json.loads(_said([*buildah, "inspect", "--type", "image", image]))
        entrypoint = config["Docker"]["config"]["Entrypoint"]
        made = cls(buildah, name, root, entrypoint, mounts, log)
        made.run("--version")  # buildah makes the places of its own mounts
        made.before = files(root)
        return made

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._command(arguments, settings), stdout=output, stderr=output
            )

    def run(self, *arguments: str, code: int = 0, **settings: str) -> str:
        done = subprocess.run(
            self._command(arguments, settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
        )
        told = f"`{' '.join(arguments)}` ended with {done.returncode}:\n{done.stdout}"
        assert done.returncode == code, told
        return done.stdout

    def _command(self, arguments: tuple[str, ...], settings: dict[str, str]) -> list[str]:
        given = [f"--env={name}={value}" for name, value in (SETTINGS | settings).items()]
        given += [f"--volume={outside}:{inside}" for outside, inside in self.mounts.items()]
        command = [*self.buildah, "run", "--isolation=chroot", *given, self.name, "--"]
        return [*command, *self.entrypoint, *arguments]

    def processes(self) -> list[psutil.Process]:
        """Those that live in it."""
        found = []
        for process in psutil.process_iter():
            try:
                here = os.path.samefile(f"/proc/{process.pid}/root", self.root)
                if here and process.status() != psutil.STATUS_ZOMBIE:  # which init is about to bury
                    found.append(process)
            except (OSError, psutil.NoSuchProcess):
                continue
        return found

    def first(self) -> psutil.Process:
        """That a container's end is told to; buildah has one of its own above it."""
        return next(p for p in self.processes() if p.name() == Path(self.entrypoint[0]).name)

    def changed(self) -> list[str]:
        after = files(self.root)
        if BUILDAHS in self.before and BUILDAHS in after:
            after[BUILDAHS] = (*after[BUILDAHS][:3], *self.before[BUILDAHS][3:])
        names = sorted(set(self.before) | set(after))
        return [name for name in names if self.before.get(name) != after.get(name)]


def files(root: Path) -> dict[str, File]:
    """Every file of a tree, with all that can be changed of it."""
    found: dict[str, File] = {}
    for folder, folders, names in os.walk(root):
        for name in [*folders, *names]:
            path = Path(folder) / name
            known = path.lstat()
            what = ""
            if stat.S_ISLNK(known.st_mode):
                what = os.readlink(path)
            elif stat.S_ISREG(known.st_mode):
                with path.open("rb") as file:
                    what = hashlib.file_digest(file, "sha256").hexdigest()
            found[str(path.relative_to(root))] = (
                known.st_mode,
                known.st_uid,
                known.st_gid,
                known.st_size,
                known.st_mtime_ns,
                what,
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--driver", required=True)
    parser.add_argument("--serve", required=True)
    parser.add_argument("--train", required=True)
    args = parser.parse_args()
    store: Path = args.store.absolute()
    buildah = ["buildah", "--root", f"{store}/images", "--runroot", f"{store}/run"]
    buildah += ["--storage-driver", args.driver]

    place = store / "trial"
    shutil.rmtree(place, ignore_errors=True)
    data, pictures, secrets, weights = (
        place / name for name in ("data", "in", "secrets", "weights")
    )
    for folder in (data, weights, place / "tmp-serve", place / "tmp-train"):
        folder.mkdir(parents=True)
        os.chown(folder, UID, UID)
    secrets.mkdir()
    (secrets / "admin_key").write_text(KEY)
    known = read_settings()
    digits.make(pictures, split_seed=known.split_seed, shares=known.split)

    shared = {data: "/data", pictures: "/in:ro", secrets: "/run/secrets:ro", weights: "/weights"}
    server, trainer = (
        Container.of(
            buildah, image, shared | {place / f"tmp-{name}": "/tmp"}, place / f"{name}.log"
        )
        for name, image in (("serve", args.serve), ("train", args.train))
    )
    try:
        figures = loop(server, trainer, pictures)
        for which, container in (("serve", server), ("train", trainer)):
            figures[which] = {
                "megabytes": round(sum(f[3] for f in container.before.values()) / 1e6),
                "files": len(container.before),
                "changed": container.changed(),
            }
    finally:
        for container in (server, trainer):
            for process in container.processes():
                process.kill()
            subprocess.run([*buildah, "rm", container.name], stdout=subprocess.DEVNULL)
    print(json.dumps(figures, indent=2))
    untouched = not figures["serve"]["changed"] and not figures["train"]["changed"]
    print("passed" if untouched else "failed: files outside the mounts changed")
    return 0 if untouched else 1


def loop(server: Container, trainer: Container, pictures: Path) -> dict[str, Any]:
    """Import, train, predict, decide, post, retrain, swap; and the processes' manners."""
    figures: dict[str, Any] = {}
    refused = server.run("train", code=2)
    assert "only serves" in refused, refused
    said = server.run("serve", code=1)
    assert "no API keys" in said, said
    _say("importing and training")
    trainer.run("import", f"/in/{digits.DATA}")
    began = time.monotonic()
    trainer.run(*TRAIN)
    figures["training_s"] = round(time.monotonic() - began)

    _say("serving and dispatching")
    service = server.start("serve", TOPLOSS_ADMIN_KEY_FILE="/run/secrets/admin_key")
    dispatcher = trainer.start("dispatch")
    began = time.monotonic()
    _until(ready, server, service)
    figures["ready_s"] = round(time.monotonic() - began, 1)
    server.run("healthy")
    users = {uid for p in (*server.processes(), *trainer.processes()) for uid in p.uids()}
    assert users == {UID}, users

    first = ask("/v1/model")
    picture = sorted((pictures / digits.NEW).rglob("*.png"))[0]
    answer = ask("/predict", picture.read_bytes(), "image/png")
    assert answer["model"] == first["version"], answer
    item = ask("/v1/top-losses?limit=1")["items"][0]
    decision = {"sample": item["id"], "action": "relabel", "label": item["predicted"]}
    ask("/v1/decisions", json.dumps(decision | {"revision": item["revision"]}).encode())
    assert ask(f"/v1/samples/{item['id']}")["label"] == item["predicted"]

    _say("posting digits, and waiting for a retraining that nobody asked for")
    for digit in sorted((pictures / digits.NEW).rglob("*.png"), key=lambda p: p.name)[:POSTED]:
        post(digit)
    began, failed, asked = time.monotonic(), 0, 0
    while (now := ask("/v1/model"))["generation"] == first["generation"]:
        assert time.monotonic() - began < 1800, ask("/v1/retrainings")
        for _ in range(5):
            asked += 1
            try:
                ask("/predict", picture.read_bytes(), "image/png")
            except OSError:
                failed += 1
            time.sleep(0.1)
    figures |= {
        "retrained_and_swapped_s": round(time.monotonic() - began),
        "generations": [first["generation"], now["generation"]],
        "predictions_meanwhile": asked,
        "failed": failed,
    }
    assert failed == 0, figures

    _say("ending a worker, stopping one, asking both commands to end")
    worker = _worker(server)
    worker.kill()
    began = time.monotonic()
    _until(lambda: ready() and _worker(server).pid != worker.pid, server, service)
    figures["worker_back_s"] = round(time.monotonic() - began, 1)
    worker = _worker(server)
    worker.suspend()
    assert "not ready" in server.run("healthy", code=1)
    worker.resume()
    for name, process, container in (
        ("service", service, server),
        ("dispatcher", dispatcher, trainer),
    ):
        began = time.monotonic()
        container.first().send_signal(signal.SIGTERM)
        process.wait(60)
        figures[f"{name}_ended_s"] = round(time.monotonic() - began, 1)
        assert not container.processes(), container.processes()
    return figures


def _worker(server: Container) -> psutil.Process:
    """The process that answers."""
    return next(p for p in server.processes() if "_bentoml_impl.worker.service" in p.cmdline())


def ask(path: str, body: bytes | None = None, kind: str = "application/json") -> dict[str, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", body)
    request.add_header("Authorization", f"Bearer {KEY}")
    request.add_header("Content-Type", kind)
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def post(digit: Path) -> None:
    """A labelled picture, as `curl -F image=@… -F label=…` sends it."""
    border = uuid.uuid4().hex
    head = f'--{border}\r\nContent-Disposition: form-data; name="label"\r\n\r\n{digit.parent.name}'
    head += f'\r\n--{border}\r\nContent-Disposition: form-data; name="image"; filename="digit.png"'
    head += "\r\nContent-Type: image/png\r\n\r\n"
    body = head.encode() + digit.read_bytes() + f"\r\n--{border}--\r\n".encode()
    ask("/v1/samples", body, f"multipart/form-data; boundary={border}")


def ready() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _until(
    reached: Callable[[], bool],
    container: Container,
    process: subprocess.Popen[bytes],
    seconds: int = 120,
) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(container.log.read_text())
        time.sleep(0.1)


def _said(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _say(what: str) -> None:
    print(f"· {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""`make demo`: from nothing to a served prediction, and the whole loop from there.

State lies in `.demo/` and is taken up again; Ctrl-C ends everything that was started.
"""

import argparse
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

from demo import digits
from demo.children import Child
from toploss.processes import follow_parent

READY_WITHIN_S = 120
# From scratch: no weights are needed. Digits are not mirrored.
TRAIN = ["train", "--arch", "resnet18", "--weights", "none", "--size", "32", "--batch-size", "32"]
TRAIN += ["--epochs-head", "3", "--epochs-all", "3", "--lr", "3e-3", "--no-flip"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--folder", type=Path, default=Path(".demo"))
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    follow_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    folder: Path = args.folder.absolute()
    children: list[Child] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")  # held until this process ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"a demo runs in {folder} already; stop it, or use that one", file=sys.stderr)
            return 1
        if not _free(args.port):
            print(
                f"port {args.port} on 127.0.0.1 is taken; stop what listens there, "
                f"or run `make demo PORT={args.port + 1}`",
                file=sys.stderr,
            )
            return 1
        environment = _environment(folder)
        os.environ.update(environment)
        _prepare(folder)
        _serve(folder, args.port, children)
        _welcome(folder, args.port)
        while not any(child.ended for child in children):
            time.sleep(0.5)
        for child in children:
            if child.ended:
                print(f"{child.name} has ended:\n{child.last_words()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopping", file=sys.stderr)
        return 0
    except _Failed as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # what was started is being ended
        for child in reversed(children):
            child.stop()


class _Failed(Exception):
    """A step of the demo has failed, in words."""


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _environment(folder: Path) -> dict[str, str]:
    """The eager policy, captures, and a home of its own."""
    return {
        "TOPLOSS_HOME": str(folder),
        "TOPLOSS_RETRAIN_QUIET_S": "5",
        "TOPLOSS_RETRAIN_COOLDOWN_S": "0",
        "TOPLOSS_GATE_CANNOT_TELL": "promote",
        "TOPLOSS_CAPTURE_RATE": "0.2",
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }


def _prepare(folder: Path) -> None:
    """Images, import, training: whatever is not there yet."""
    from toploss import models
    from toploss.home import Home

    home = Home.open()
    _say("the sample set: handwritten digits, 3 % of the labels wrong on purpose")
    digits.make(folder, split_seed=home.settings.split_seed, shares=home.settings.split)
    if models.production(home) is not None:
        _say("a version serves already: the state in .demo/ is taken up again")
        return
    _say("importing")
    _toploss("import", str(folder / digits.DATA))
    _say("training (about a minute on two cores)")
    _toploss(*TRAIN)


def _serve(folder: Path, port: int, children: list[Child]) -> None:
    _say(f"starting the service on 127.0.0.1:{port} and its dispatcher")
    python = Path(sys.executable)
    serve = [python.with_name("bentoml"), "serve", "service:Toploss", "--port", port]
    dispatch = [python.with_name("toploss"), "dispatch"]
    for name, command in (("service", serve), ("dispatcher", dispatch)):
        log = folder / f"{name}.log"
        children.append(Child.start(name, [str(part) for part in command], {}, log))
    deadline = time.monotonic() + READY_WITHIN_S
    while not _ready(port):
        if ended := next((child for child in children if child.ended), None):
            raise _Failed(f"the {ended.name} has ended:\n{ended.last_words()}")
        if time.monotonic() > deadline:
            raise _Failed(f"the service is not ready after {READY_WITHIN_S} s; see {folder}/*.log")
        time.sleep(0.2)


def _welcome(folder: Path, port: int) -> None:
    """A `curl` with its real answer, and where to go from here."""
    picture = sorted((folder / digits.NEW).rglob("*.png"))[0]
    shown = os.path.relpath(picture)
    address = f"http://127.0.0.1:{port}"
    waiting = f"{digits.HELD_BACK} wait in {os.path.relpath(folder / digits.NEW)}/<label>/"
    request = urllib.request.Request(
        f"{address}/predict", picture.read_bytes(), {"Content-Type": "image/png"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    print(
        f"""
Toploss serves. Try it:

  curl -F image=@{shown} {address}/predict

  {json.dumps(answer)}

Review what the model was most wrong about:  {address}/review
Post new, labelled images ({waiting}):

  curl -F image=@{shown} -F label={picture.parent.name} {address}/v1/samples

After {_after()} changed samples of train or valid, and 5 s of quiet, a retraining starts by itself.
The command line works on the same state:  export TOPLOSS_HOME={folder}
Logs: {os.path.relpath(folder)}/service.log, {os.path.relpath(folder)}/dispatcher.log. \
Ctrl-C stops everything.""",
        flush=True,
    )


def _after() -> int:
    from toploss.settings import read_settings

    return read_settings().retrain_after


def _toploss(*arguments: str) -> None:
    """Run a command of ours in a session of its own, its progress shown; Ctrl-C ends it."""
    command = [str(Path(sys.executable).with_name("toploss")), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()
        raise
    if code:
        raise _Failed(f"`toploss {' '.join(arguments)}` has failed (exit code {code}), see above")


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _say(what: str) -> None:
    print(f"· {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

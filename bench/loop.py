"""The whole loop by HTTP alone, on the demo's digits.

The demo is started in an empty folder; its planted errors are looked for in the top losses; then
labelled digits are posted one by one, while a client predicts ten times a second, until a new
version answers that nobody asked for.
"""

import csv
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.common import main, options, share

PORT = 3917
PREDICTIONS_PER_S = 10
POSTED = 120
LONGEST_S = 600


@dataclass
class Predictor:
    """A client that predicts all the while, and remembers every answer."""

    address: str
    image: bytes
    failures: list[str] = field(default_factory=list)
    unnamed: int = 0  # answers that do not say which version gave them
    versions: list[str] = field(default_factory=list)  # in order of first appearance
    seconds: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(base_url=self.address, timeout=30) as client:
            due = time.monotonic()
            while not self._stop.is_set():
                self._predict(client)
                due = max(due + 1 / PREDICTIONS_PER_S, time.monotonic())
                self._stop.wait(due - time.monotonic())

    def stop(self) -> None:
        self._stop.set()

    def _predict(self, client: httpx.Client) -> None:
        began = time.monotonic()
        try:
            answer = client.post(
                "/predict", content=self.image, headers={"Content-Type": "image/png"}
            )
        except httpx.HTTPError as exc:
            self.failures.append(repr(exc))
            return
        self.seconds.append(time.monotonic() - began)
        if answer.status_code != 200:
            self.failures.append(f"{answer.status_code} {answer.text[:200]}")
            return
        model = answer.json().get("model")
        if not model or answer.headers.get("X-Model-Version") != model:
            self.unnamed += 1
        elif model not in self.versions:
            self.versions.append(model)


def measure(quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        folder = Path(scratch) / "demo"
        began = time.monotonic()
        demo, seconds = _start(folder)
        try:
            figures: dict[str, Any] = {"demo_to_prediction_s": seconds}
            with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=60) as client:
                figures |= _planted(client, folder)
                figures |= _review(client)
                figures |= _loop(client, folder, 60 if quick else POSTED)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
        figures["left_behind"] = _left_behind(folder)
        figures["seconds"] = time.monotonic() - began
        return figures


def _start(folder: Path) -> tuple[subprocess.Popen[str], float]:
    """The demo, and the seconds to its served prediction."""
    command = [sys.executable, "-u", "-m", "demo", "--port", str(PORT), "--folder", str(folder)]
    began = time.monotonic()
    demo = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, start_new_session=True
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        print(line, end="", flush=True)
        if "Ctrl-C stops everything" in line:
            return demo, time.monotonic() - began
    raise SystemExit("the demo did not come up")


def _planted(client: httpx.Client, folder: Path) -> dict[str, Any]:
    """How many of the planted errors of the validation split stand among as many top losses."""
    rows = list(csv.DictReader((folder / "planted.csv").open()))
    wrong = {row["id"] for row in rows if row["split"] == "valid"}
    items = client.get("/v1/top-losses", params={"limit": 500}).json()["items"]
    order = [item["id"] for item in items]
    card = client.get("/v1/model").json()
    return {
        "test_accuracy": card["metrics"]["test"]["accuracy"],
        "planted_in_valid": len(wrong),
        "found_at_n": len(wrong & set(order[: len(wrong)])),
        "found_at_2n": len(wrong & set(order[: 2 * len(wrong)])),
        "rank_of_last": max(order.index(sample) for sample in wrong) + 1,
    }


def _review(client: httpx.Client) -> dict[str, Any]:
    """A relabel changes the label and counts; undo takes both back; a stale revision gets 409."""
    item = client.get("/v1/top-losses", params={"limit": 1}).json()["items"][0]
    decision = {
        "sample": item["id"],
        "action": "relabel",
        "label": item["predicted"],
        "revision": item["revision"],
    }
    changed = [client.get("/v1/dataset").json()["changed"]]
    made = client.post("/v1/decisions", json=decision)
    stale = client.post("/v1/decisions", json=decision)
    relabelled = client.get(f"/v1/samples/{item['id']}").json()["label"]
    changed.append(client.get("/v1/dataset").json()["changed"])
    undone = client.delete(f"/v1/decisions/{made.json()['id']}")
    restored = client.get(f"/v1/samples/{item['id']}").json()["label"]
    changed.append(client.get("/v1/dataset").json()["changed"])
    return {
        "relabelled": relabelled == item["predicted"] and made.status_code == 201,
        "undone": restored == item["label"] and undone.status_code == 200,
        "stale_status": stale.status_code,
        "changed_before_during_after": changed,
    }


def _loop(client: httpx.Client, folder: Path, posted: int) -> dict[str, Any]:
    digits = sorted((folder / "new-digits").rglob("*.png"), key=lambda path: path.name)[:posted]
    before = client.get("/v1/model").json()
    predictor = Predictor(str(client.base_url), digits[0].read_bytes())
    thread = threading.Thread(target=predictor.run)
    thread.start()
    try:
        time.sleep(5)
        steady = len(predictor.seconds)
        splits = [_post(client, digit) for digit in digits]
        last_post = time.monotonic()
        after = _until_new(client, before["generation"])
        swapped = time.monotonic()
        time.sleep(5)
    finally:
        predictor.stop()
        thread.join()
    runs = client.get("/v1/retrainings").json()["items"]
    return {
        "posted": posted,
        "posted_to_train": splits.count("train"),
        "seconds_from_last_post": swapped - last_post,
        "generations": [before["generation"], after["generation"]],
        "gate": runs[0]["gate"]["reason"],
        "triggered_by": runs[0]["reasons"][0]["reason"],
        "predictions": len(predictor.seconds),
        "failed": len(predictor.failures),
        "failures": predictor.failures[:3],
        "unnamed": predictor.unnamed,
        "versions_seen": len(predictor.versions),
        "steady_ms_p50": 1000 * share(predictor.seconds[:steady], 50),
        "loop_ms_p50": 1000 * share(predictor.seconds[steady:], 50),
        "loop_ms_p99": 1000 * share(predictor.seconds[steady:], 99),
        "loop_ms_max": 1000 * max(predictor.seconds[steady:]),
    }


def _post(client: httpx.Client, digit: Path) -> str:
    files = {"image": (digit.name, digit.read_bytes(), "image/png")}
    answer = client.post("/v1/samples", files=files, data={"label": digit.parent.name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["split"])


def _until_new(client: httpx.Client, generation: int) -> dict[str, Any]:
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        card: dict[str, Any] = client.get("/v1/model").json()
        if card["generation"] > generation:
            return card
        runs = client.get("/v1/retrainings").json()["items"]
        if runs and runs[0]["state"] in ("failed", "cancelled"):
            raise SystemExit(f"the run has {runs[0]['state']}: {runs[0]['error']}")
        time.sleep(1)
    raise SystemExit(f"no new generation after {LONGEST_S} s")


def _left_behind(folder: Path) -> int:
    """Processes that still know the demo's folder, or hold its port."""
    left = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=False)
    mine = {str(os.getpid()), str(os.getppid())}
    held = subprocess.run(
        ["pgrep", "-f", f"port {PORT}"], capture_output=True, text=True, check=False
    )
    return len((set(left.stdout.split()) | set(held.stdout.split())) - mine)


if __name__ == "__main__":
    main(options("loop", "60 digits are posted instead of 120"), lambda args: measure(args.quick))

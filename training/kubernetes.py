"""Trainings as Kubernetes Jobs: one Job per attempt, named for it.

What is to be is compared with what is at every look, with plain reads: a look per step is one GET
and one small list, which a cluster does not feel, and no watch can be dropped, run out or miss
anything. The Job goes on without us; whoever dispatches next finds it by its name.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from toploss import attempts, records, states
from toploss.attempts import Lease
from toploss.errors import Broken, Fenced, NotFound, ToplossError
from toploss.home import Home
from training import jobs
from training.cluster import Cluster, Denied, Json, when
from training.podlog import PodLog
from training.pods import LOST, Sight, seen

log = logging.getLogger("toploss.launcher")

FOLLOW_S = 3.0  # between two looks at what the pods have printed: a pod may vanish with it
COLLECT_S = 30.0  # likewise, at what the cluster says of them
ENDING_S = 60.0  # for pods that were asked to end; after that the fence alone holds them off


class KubernetesLauncher:
    """Launches into the cluster's namespace; needs the rights of docs/kubernetes.md."""

    outlives = True

    def __init__(self, home: Home, cluster: Cluster) -> None:
        """Raises BadSettings: the Job's template is not usable."""
        self._form = jobs.form(home.settings)
        self._home, self._cluster = home, cluster
        self._lease: Lease | None = None

    @classmethod
    def connect(cls, home: Home) -> "KubernetesLauncher":
        """Raises BadSettings."""
        settings = home.settings
        return cls(home, Cluster.connect(settings.kubernetes_namespace, jobs.form(settings)))

    def launch(self, lease: Lease) -> None:
        """Make the Job. Where the API is away, the next look does it: nothing is lost by that."""
        self._take(lease)
        try:
            self._create(lease)
        except Broken as exc:
            log.warning("run %s is not launched yet: %s", lease.run, exc)

    def find(self, lease: Lease) -> bool:
        if self._cluster.job(jobs.name(lease)) is None:
            return False
        self._take(lease)
        self._created = True
        log.info("found run %s, attempt %d, at work", lease.run, lease.fence)
        return True

    def poll(self) -> int | None:
        assert self._lease is not None, "nothing was launched"
        if self._code is None and not self._created:
            self._create(self._lease)
        if self._code is None:
            self._look(self._lease)
        return self._code

    def reason(self) -> str:
        return self._reason

    def stop(self) -> None:
        if self._lease is None or self._code is not None:
            return
        self._collect(self._lease)
        self._end(self._lease)
        self._ended(LOST, "it was stopped")

    def _take(self, lease: Lease) -> None:
        self._lease, self._created = lease, False
        self._code: int | None = None
        self._reason = ""
        self._stuck: float | None = None  # since when it does not begin, by the monotonic clock
        self._trouble = ""  # what was last said of that
        self._collected = self._followed = time.monotonic()
        self._printed: dict[str, PodLog] = {}  # by pod: a vanished one's last words are kept
        self._events: list[str] = []

    def _create(self, lease: Lease) -> None:
        self._sweep()
        job = jobs.made(self._home.settings, lease)
        try:
            new = self._cluster.create(job)
        except Denied as exc:  # told with the run, and not asked for ever
            self._ended(LOST, str(exc))
            return
        self._created = True
        said = "launched" if new else "found"
        kind = self._form.kind
        log.info(
            "%s run %s, attempt %d, as %s %s", said, lease.run, lease.fence, kind, jobs.name(lease)
        )

    def _look(self, lease: Lease) -> None:
        job = self._cluster.job(jobs.name(lease))
        pods = self._cluster.pods(self._form.pods(lease))
        sight = seen(job, pods, self._form.container)
        if sight.code is not None:
            self._collect(lease, pods)
            self._ended(sight.code, sight.trouble)
        elif sight.running:
            self._stuck, self._trouble = None, ""
            if time.monotonic() - self._collected > COLLECT_S:
                self._collect(lease, pods)
            elif time.monotonic() - self._followed > FOLLOW_S:
                self._follow(lease, pods)
        else:
            self._wait(lease, sight, suspended=bool(job and job["spec"].get("suspend")))

    def _wait(self, lease: Lease, sight: Sight, *, suspended: bool) -> None:
        """It has not begun, or its pod is being replaced: nobody but us can say that it lives."""
        try:
            attempts.beat(self._home, lease)
        except Fenced:
            return  # the dispatcher sees that too
        if not sight.trouble or suspended:  # on its way, or held back by whoever queues Jobs
            self._stuck = None
            return
        if self._stuck is None:
            self._stuck = time.monotonic()
        if sight.trouble != self._trouble:
            self._trouble = sight.trouble
            log.warning("run %s: %s", lease.run, sight.trouble)
        waited = time.monotonic() - self._stuck
        if sight.hopeless or waited >= self._home.settings.kubernetes_start_s:
            self._collect(lease)
            reason = f"{sight.trouble} (for {waited:.0f} s){self._last_warning(lease)}"
            self._end(lease)
            self._ended(LOST, reason)

    def _ended(self, code: int, reason: str) -> None:
        self._code, self._reason = code, reason

    def _end(self, lease: Lease) -> None:
        """Remove the Job, and wait until its pods have ended, politely, for a while."""
        self._cluster.delete(jobs.name(lease))
        until = time.monotonic() + ENDING_S
        while self._cluster.pods(self._form.pods(lease)):
            if time.monotonic() > until:
                log.warning("run %s: a pod does not end; it is fenced out", lease.run)
                return
            time.sleep(0.5)

    def _follow(self, lease: Lease, pods: list[Json]) -> None:
        """Keep what the pods have printed since the last time."""
        with self._unless_denied(lease):
            if self._read(pods):
                self._keep(lease)

    def _collect(self, lease: Lease, pods: list[Json] | None = None) -> None:
        """Keep what the pods have printed and what the cluster says of them beside the run's
        log."""
        self._collected = time.monotonic()
        with self._unless_denied(lease):
            pods = self._cluster.pods(self._form.pods(lease)) if pods is None else pods
            self._read(pods)
            self._events = self._told(lease, [pod["metadata"]["name"] for pod in pods])
            self._keep(lease)

    def _read(self, pods: list[Json]) -> bool:
        """Whether they have printed anything."""
        self._followed = time.monotonic()
        names = [pod["metadata"]["name"] for pod in pods]
        for name in names:
            if name not in self._printed:
                self._printed[name] = PodLog(self._cluster, name, self._form.container)
        new = [self._printed[name].follow() for name in names]
        return any(new)

    def _keep(self, lease: Lease) -> None:
        lines = [f"— pod {name} —\n{log.text}" for name, log in self._printed.items() if log.text]
        records.put_log(self._home, lease.run, lease.fence, "\n".join(lines + self._events))

    @contextmanager
    def _unless_denied(self, lease: Lease) -> Iterator[None]:
        """That a log cannot be had ends no run, and is tried again with the next collecting."""
        try:
            yield
        except ToplossError as exc:
            self._followed = self._collected + COLLECT_S
            log.warning("run %s: what its pod has printed is not to be had: %s", lease.run, exc)

    def _told(self, lease: Lease, pods: list[str]) -> list[str]:
        events = [one for name in (jobs.name(lease), *pods) for one in self._cluster.events(name)]
        return [
            f"{when(event)} {event.get('type')} {event.get('reason')}: {event.get('message')}"
            for event in sorted(events, key=when)
        ]

    def _last_warning(self, lease: Lease) -> str:
        """What the cluster last complained of: why a Job has no pod stands nowhere else."""
        try:
            told = self._cluster.events(jobs.name(lease))
        except ToplossError:
            return ""
        warnings = [str(event.get("message")) for event in told if event.get("type") == "Warning"]
        return f": {warnings[-1]}" if warnings else ""

    def _sweep(self) -> None:
        """Remove Jobs of attempts that are over and that nobody was there to remove."""
        try:
            for job in self._cluster.jobs(jobs.ours(self._home.settings)):
                ended = seen(job, [], self._form.container).code is not None
                if self._is_over(job) and not (ended and self._form.expires):
                    log.warning("removing Job %s: its attempt is over", job["metadata"]["name"])
                    self._cluster.delete(job["metadata"]["name"])
        except ToplossError as exc:
            log.warning("Jobs that are over are not removed: %s", exc)

    def _is_over(self, job: Json) -> bool:
        """Whether the attempt is one of our own database, and void."""
        try:
            lease = jobs.lease(job)
            run = records.show(self._home, lease.run)
        except (NotFound, KeyError, ValueError):
            return False  # another installation's, which bears the same name
        return run["attempt"] != lease.fence or run["state"] not in states.ACTIVE

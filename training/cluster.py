"""The API of a Kubernetes cluster, as far as a launcher needs it; asked again while that may help.

The official client signs in (a pod's own token, else kubeconfig) and speaks TLS. The answers stay
plain JSON: its typed models refuse what a newer or an odd server says.
"""

import json
import logging
import random
import time
from typing import Any

from toploss.errors import BadSettings, Broken
from training.jobs import JOB, Form

log = logging.getLogger("toploss.cluster")

TIMEOUT_S = (3, 10)  # to connect, to answer
PAUSES_S = (0.2, 0.5, 1.0, 2.0)  # between tries; a step of the dispatcher must not take long
PATIENCE_S = 10.0  # no try begins later than this after the first
LOG_BYTES = 4 * 2**20
LOG_LINES = 5_000

Json = dict[str, Any]


class Denied(Broken):
    """The API says no, and will say so again until somebody changes something."""


class Cluster:
    """One namespace of it, where Jobs are of one form. Every method raises Broken where the API
    stays away or fails for a while (nothing is known then), and Denied."""

    def __init__(self, client: Any, namespace: str, form: Form = JOB) -> None:
        self._client, self._namespace, self.form = client, namespace, form
        self._not_before = 0.0  # by the monotonic clock, as the API has asked

    @classmethod
    def connect(cls, namespace: str, form: Form) -> "Cluster":
        """With the rights of the pod that we run in, else of kubeconfig's current context.

        Raises:
            BadSettings: there is neither.
        """
        from kubernetes import client, config  # late: a second and a half

        settings = client.Configuration()
        settings.retries = False  # ours are bounded
        try:
            try:
                config.load_incluster_config(client_configuration=settings)
            except config.ConfigException:
                config.load_kube_config(client_configuration=settings)
        except config.ConfigException as exc:
            raise BadSettings(
                f"TOPLOSS_EXECUTOR=kubernetes finds no cluster ({exc}); run the dispatcher in a "
                "pod with a service account, or give a KUBECONFIG"
            ) from exc
        return cls(client.ApiClient(settings), namespace, form)

    def create(self, job: Json) -> bool:
        """Make a Job; False when there is one of its name."""
        try:
            self._ask("POST", self._jobs(), body=job)
        except _Status as exc:
            if exc.status == 409:
                return False
            raise self._denied(f"create {self.form.resource}", exc) from exc
        return True

    def job(self, name: str) -> Json | None:
        try:
            return self._json(f"get {self.form.resource}", self._jobs(name))
        except _Missing:
            return None

    def jobs(self, labels: dict[str, str]) -> list[Json]:
        return self._list(
            f"list {self.form.resource}", self._jobs(), labelSelector=_selector(labels)
        )

    def pods(self, labels: dict[str, str]) -> list[Json]:
        """Oldest first."""
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        found = self._list("list pods", path, labelSelector=_selector(labels))
        return sorted(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))

    def events(self, name: str) -> list[Json]:
        """Of the Job or pod of that name, oldest first."""
        path = f"/api/v1/namespaces/{self._namespace}/events"
        found = self._list("list events", path, fieldSelector=f"involvedObject.name={name}")
        return sorted(found, key=when)

    def output(self, pod: str, container: str, *, since_s: int | None = None) -> str:
        """The end of what a container has printed, each line behind its time; empty when there is
        nothing, or no such pod.

        Args:
            since_s: only what it has printed for so many seconds.
        """
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/log"
        since = {} if since_s is None else {"sinceSeconds": since_s}
        bounds: dict[str, Any] = {"tailLines": LOG_LINES, "limitBytes": LOG_BYTES, **since}
        try:
            printed = self._ask("GET", path, container=container, timestamps="true", **bounds)
            return printed.decode(errors="replace")
        except _Status as exc:
            if exc.status in (400, 404):  # the container has not begun; the pod is gone
                return ""
            raise self._denied("get pods/log", exc) from exc

    def delete(self, name: str) -> None:
        """Remove a Job; its pods are asked to end. One that is not there is no error."""
        try:
            self._ask("DELETE", self._jobs(name), propagationPolicy="Background")
        except _Status as exc:
            if exc.status not in (404, 409):
                raise self._denied(f"delete {self.form.resource}", exc) from exc

    def _jobs(self, name: str = "") -> str:
        path = self._namespace.join(self.form.path)
        return f"{path}/{name}" if name else path

    def _list(self, what: str, path: str, **query: Any) -> list[Json]:
        try:
            items: list[Json] = self._json(what, path, **query)["items"]
        except _Missing:
            return []
        return items

    def _json(self, what: str, path: str, **query: Any) -> Json:
        try:
            answer = self._ask("GET", path, **query)
            return dict(json.loads(answer))
        except ValueError as exc:
            raise Broken(f"the Kubernetes API answers {what} with no JSON ({exc})") from exc
        except _Status as exc:
            if exc.status == 404:
                raise _Missing from exc
            raise self._denied(what, exc) from exc

    def _ask(self, method: str, path: str, body: Json | None = None, **query: Any) -> bytes:
        """Raises _Status for an answer that another try does not change, Broken."""
        from urllib3.exceptions import HTTPError

        began = time.monotonic()
        if began < self._not_before:
            raise Broken(
                "the Kubernetes API has asked to be left alone for a while; it is overloaded"
            )
        for pause in (*PAUSES_S, None):
            try:
                return self._once(method, path, body, query)
            except _Status as exc:
                if not exc.may_heal:
                    raise
                told, asked_for = str(exc), exc.retry_after_s
            except HTTPError as exc:  # refused, dropped, timed out
                told, asked_for = str(exc), None
            if asked_for is not None:
                self._not_before = time.monotonic() + asked_for
            jitter = random.uniform(0.5, 1)  # noqa: S311  # no secret
            wait = (pause or 0) * jitter if asked_for is None else asked_for
            if pause is None or time.monotonic() - began + wait > PATIENCE_S:
                break
            log.info("%s %s: %s; again in %.1f s", method, path, told, wait)
            time.sleep(wait)
        raise Broken(f"the Kubernetes API does not do {method} {path} ({told}); it is asked again")

    def _once(self, method: str, path: str, body: Json | None, query: dict[str, Any]) -> bytes:
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": "application/json"}
        self._client.update_params_for_auth(headers, [], ["BearerToken"])
        url = self._client.configuration.host + path
        options = {"query_params": list(query.items()), "_request_timeout": TIMEOUT_S}
        try:
            answer = self._client.request(method, url, headers=headers, body=body, **options)
        except ApiException as exc:
            raise _Status.of(exc) from exc
        return bytes(answer.data)

    def _denied(self, what: str, exc: "_Status") -> Denied:
        where = f"in namespace {self._namespace}"
        if exc.status == 403:
            remedy = f"allow `{what}` to the dispatcher (docs/kubernetes.md), or raise the quota"
        elif exc.status == 404:
            remedy = "create the namespace, or correct TOPLOSS_KUBERNETES_NAMESPACE"
            if self.form is not JOB:
                remedy += f"; is {self.form.api} installed?"
        else:
            remedy = "correct the template that TOPLOSS_KUBERNETES_JOB names"
        return Denied(f"Kubernetes refuses to {what} {where}: {exc}; {remedy}")


class _Missing(Exception):
    """There is no such object."""


class _Status(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, retry_after_s: float | None) -> None:
        super().__init__(f"{status} {message}")
        self.status, self.retry_after_s = status, retry_after_s

    @classmethod
    def of(cls, exc: Any) -> "_Status":
        try:
            message = json.loads(exc.body)["message"]
        except (ValueError, TypeError, KeyError):
            message = exc.reason
        told = {key.lower(): text for key, text in (exc.headers or {}).items()}.get("retry-after")
        return cls(exc.status or 0, str(message), _seconds(told))

    @property
    def may_heal(self) -> bool:
        """0 is TLS's trouble. 401: the token may have run out, and is read anew. 410: what was
        listed has grown too old."""
        return self.status in (0, 401, 408, 410, 429) or self.status >= 500


def when(event: Json) -> str:
    """An event's last time, as text; in a cluster all are UTC."""
    times = (event.get(key) for key in ("lastTimestamp", "eventTime", "firstTimestamp"))
    return str(next((at for at in times if at), ""))


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None


def _selector(labels: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())

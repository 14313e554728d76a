"""The BentoML service: wiring only. `bentoml serve` imports this in its supervisor as well as in
the worker; what costs or holds anything is made in `Toploss.__init__`, in the worker alone."""

import os

# BentoML reports each start to its makers unless told not to.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

from typing import Any

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.utils.analytics import usage_stats
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

from service import address, framing, logs
from service import mode as modes
from service.edge import Edge
from service.packing import Packed
from toploss.heap import allocate_to_give_back
from toploss.processes import follow_parent
from toploss.settings import read_settings

usage_stats.do_not_track.cache_clear()  # its command line has asked before we could say no
framing.install()
mode = modes.found()
api = mode.api()


class _Unhurried(bentoml.Service):  # type: ignore[misc]  # untyped there
    """BentoML's service, less two of its middlewares and a half.

    Its time-out leaves a timer behind for every request, and cannot be configured away. Its
    metrics carry raw paths, so every image looked at would be a time series; ours take their place
    at /metrics. And where no trace is collected, a request has no spans beside its own: each piece
    that it sends or receives would have one, a tenth of what a refusal costs.
    """

    def to_asgi(self, is_main: bool = True) -> Any:
        from _bentoml_impl.server.app import ServiceAppFactory

        self.inject_config()
        factory = ServiceAppFactory(self, is_main=is_main)
        factory.timeout = None
        factory.enable_metrics = False
        app = factory()
        for middleware in app.user_middleware:
            if middleware.cls is OpenTelemetryMiddleware and not _collects_traces():
                middleware.kwargs["exclude_spans"] = ["send", "receive"]
        return app


def _collects_traces() -> bool:
    return bool(BentoMLContainer.tracing.sample_rate.get())


@bentoml.service(
    name="toploss",
    service_class=_Unhurried,
    http={"host": "127.0.0.1", "port": 3000},
    workers=1,  # workers share no memory, and so no model: replicas instead
)
@bentoml.asgi_app(api, path="/")
class Toploss:
    """An image classifier that shows what it was most wrong about, and retrains itself."""

    packed = Packed()

    def __init__(self) -> None:
        address.refuse_in_worker(mode.ring())
        allocate_to_give_back()
        settings = read_settings()
        logs.install(settings.log_format, settings.log_level)
        # `kill -9` of `bentoml serve` leaves its worker serving and the port taken.
        follow_parent(lambda: os._exit(1))
        self._desk = mode.desk()
        api.state.desk = self._desk
        self._desk.start()

    def __is_ready__(self) -> bool:
        return self._desk.swap.ready

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        self._desk.clear()


served: Any = Toploss  # the decorator has made a service of the class
served.add_asgi_middleware(Edge, api=api)
served.inject_config()
address.refuse_in_supervisor(str(BentoMLContainer.http.host.get()), mode.ring)

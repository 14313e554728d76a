"""A thread for what nobody waits for."""

import threading

from toploss.priority import NEVER_FIRST, step_back

END_S = 5.0  # that whoever stops waits for what is under way


class Behind:
    """Works beside the answers, with one thread of the lowest priority. What it does is its
    `_follow`, which returns soon after `_stopped` is set."""

    def __init__(self, name: str) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(END_S)

    def _work(self) -> None:
        step_back(NEVER_FIRST)
        self._follow()

    def _follow(self) -> None:
        raise NotImplementedError

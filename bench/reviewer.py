"""Somebody who is never wrong, and reviews over HTTP alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, kw_only=True)
class Reviewer:
    """Knows every true label, and says so over HTTP."""

    client: httpx.Client
    truth: dict[str, str]  # by sample

    def down_the_list(self) -> Iterator[str]:
        """From its top, each time to the `next` that the service answers with; the samples, each
        once it is decided."""
        items = self._get("/v1/top-losses", limit=1)["items"]
        item = items[0] if items else None
        while item:
            answer = self._decide(item)
            yield item["id"]
            item = answer["next"]

    def through(self, ids: Sequence[str]) -> Iterator[str]:
        """In this order."""
        for sample in ids:
            self._decide(self._get(f"/v1/samples/{sample}"))
            yield sample

    def estimate(self) -> dict[str, Any] | None:
        """What the service says of the errors that remain; None: it says nothing."""
        answer = self.client.get("/v1/progress")
        return answer.json().get("estimate") if answer.status_code == 200 else None

    def _decide(self, sample: dict[str, Any]) -> dict[str, Any]:
        label = self.truth[sample["id"]]
        said = {"sample": sample["id"], "revision": sample["revision"]}
        said |= (
            {"action": "confirm"}
            if sample["label"] == label
            else {"action": "relabel", "label": label}
        )
        answer = self.client.post("/v1/decisions", json=said).raise_for_status()
        return dict(answer.json())

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return dict(self.client.get(path, params=params).raise_for_status().json())

"""What a version says of itself, to whoever asks it."""

from typing import Any

from fastapi import APIRouter

from service import times
from service.desk import OurDesk
from toploss.models import Version

router = APIRouter(prefix="/v1", tags=["models"])

# What a card shows of the manifest, where it has it.
SHOWN = ("labels", "architecture", "metrics", "temperature", "novelty", "snapshot", "gate")


@router.get("/model", summary="The card of the version that this server answers with")
def card(desk: OurDesk) -> dict[str, Any]:
    """503 while none answers. After a promotion the card follows within a second or two. A Bento
    that serves alone has generation 0."""
    serving = desk.swap.now()
    return {
        "version": serving.version,
        "generation": serving.generation,
        "engine": serving.engine.name,
        **of(serving.published),
    }


def of(version: Version) -> dict[str, Any]:
    """The card of any version."""
    shown = {key: version.manifest[key] for key in SHOWN if key in version.manifest}
    pruned = {} if version.pruned_at is None else {"pruned_at": times.iso(version.pruned_at)}
    return {"run": version.run, "trained_at": times.iso(version.created_at), **pruned, **shown}

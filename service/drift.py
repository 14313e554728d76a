"""Whether what is asked still looks like what was learned, over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from service import chart, times
from service.desk import OurHome
from toploss import drift

router = APIRouter(prefix="/v1/drift", tags=["drift"])

# A picture with its style inside.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

Hours = Annotated[
    int | None,
    Query(ge=1, le=720, description="of the last hours; else TOPLOSS_DRIFT_WINDOW_H"),
]


@router.get("", summary="How far the traffic has shifted from production's snapshot")
def show(home: OurHome, hours: Hours = None) -> dict[str, Any]:
    """Predicted classes, and what the network sees, against held-out images of the snapshot: as
    population stability indices, less what chance makes of them. 503 while there is no model."""
    told = drift.look(home, hours=hours).as_json()
    told["since"] = times.iso(told["since"])
    told["alarms"] = [times.spelled(alarm) for alarm in told["alarms"]]
    return told


@router.get(
    "/plot",
    summary="The same as a picture",
    response_class=Response,
    responses={200: {"content": {"image/svg+xml": {}}, "description": "Drawn."}},
)
def plot(home: OurHome, hours: Hours = None) -> Response:
    return Response(
        chart.draw(drift.look(home, hours=hours)),
        media_type="image/svg+xml",
        headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"},
    )

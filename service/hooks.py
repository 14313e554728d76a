"""Calls from outside, signed: no key comes with them."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from service import metrics
from service.auth import HOOK
from service.desk import OurHome
from toploss import hooks, signing

router = APIRouter(tags=["retraining"])

BODY = {
    "requestBody": {
        "description": "Any JSON; `reason` is kept.",
        "content": {"application/json": {"schema": {}}},
    }
}


@router.post(HOOK, summary="A trigger from outside, signed", status_code=202, openapi_extra=BODY)
async def retrain(home: OurHome, request: Request) -> Any:
    """Signed by `webhook-id`, `webhook-timestamp` and `webhook-signature` of Standard Webhooks, or
    by GitHub's `X-Hub-Signature-256`; see docs/triggers.md. The same id again gets the same answer.
    403 while no secret is set."""
    secrets = await run_in_threadpool(home.settings.hook_secrets)
    if not secrets:
        raise HTTPException(
            403,
            "no call from outside is taken, because no secret is set to check it by; set "
            "TOPLOSS_HOOK_SECRET or TOPLOSS_HOOK_SECRET_FILE where the service runs",
        )
    body = await request.body()
    signed = signing.verified(secrets, request.headers, body)
    if signed is None:
        raise _not_let_in("this is not signed as it has to be; docs/triggers.md says how")
    if signed.off_s() > signing.TOLERANCE_S:
        raise _not_let_in(
            f"the message is signed, and its time is {signed.off_s():.0f} s off this clock, of "
            f"{signing.TOLERANCE_S} s; set the clocks, and sign it anew"
        )
    if signed.id is None and request.headers.get("x-github-event") == "ping":
        return JSONResponse({"id": None, "state": None}, 202)  # it only tries the address
    reason = hooks.reason_of(body, "called from outside")
    return await run_in_threadpool(hooks.called, home, signed, body, reason=reason)


def _not_let_in(detail: str) -> HTTPException:
    metrics.REFUSED.labels(reason="signature").inc()
    return HTTPException(401, detail, {"WWW-Authenticate": "Signature"})

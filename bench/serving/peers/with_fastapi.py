"""FastAPI and `learn.predict`, as the fast.ai course deploys: a process for each core, and one
prediction at a time in it, for a learner is not safe among threads."""

import io
import os
from typing import Annotated, Any

import torch
from fastai.vision.all import PILImage, load_learner
from fastapi import FastAPI, File

app = FastAPI()
torch.set_num_threads(1)  # there are as many processes as cores
learn = load_learner(os.environ["PEER_LEARNER"])


@app.post("/predict")
async def predict(image: Annotated[bytes, File()]) -> dict[str, Any]:
    with learn.no_bar(), learn.no_logging():
        label, place, shares = learn.predict(PILImage.create(io.BytesIO(image)))
    return {"label": str(label), "confidence": float(shares[place])}

"""What anyone would write first: one FastAPI route, a pydantic body, and the trees of a release. It checks nothing and knows no table."""

import sys
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket


class Body(BaseModel):
    """The values of the features, in the order of the training."""

    values: list[float]


def main(root: Path, release: str, port: int) -> None:
    """Serves on this port."""
    booster = ModelLibrary(LocalBucket(root / "bucket"), root / "cache").release(release).model._booster
    features = booster.num_feature()
    app = FastAPI()

    @app.get("/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/predict")
    async def predict(body: Body) -> dict[str, float]:
        values = np.zeros((1, features), dtype=np.float32)
        values[0, : len(body.values)] = body.values[:features]
        return {"cr": float(booster.predict(values, num_threads=1)[0])}

    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

"""Tasks for Celery's pre-forking worker, by a broker and a results backend that are folders."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.transport.filesystem import Channel
from kombu.utils.json import dumps

from selfdb import SelfDB
from selfdb.exceptions import InternalServerError

ROOT = Path(os.environ["CELERY_FOLDER"])
FOLDERS = {"data_folder_in": str(ROOT / "queue"), "data_folder_out": str(ROOT / "queue")}
for name in ("queue", "results", "control", "written"):
    (ROOT / name).mkdir(exist_ok=True)


def put(self: Channel, queue: str, payload: Any, **options: Any) -> None:
    """As the broker's own, which may be read, and is lost, before it is written."""
    name = f"{time.monotonic_ns():020}_{uuid.uuid4()}.{queue}.msg"
    written = ROOT / "written" / name
    written.write_text(dumps(payload), encoding="utf-8")
    written.rename(ROOT / "queue" / name)


Channel._put = put

app = Celery("tests.faults.celery_app", broker="filesystem://", backend=f"file://{ROOT / 'results'}")
app.conf.update(
    broker_transport_options={**FOLDERS, "control_folder": str(ROOT / "control"), "polling_interval": 0.05},
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle", "json"],
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
)

db = SelfDB()
db.status()  # a connection to inherit


@app.task  # type: ignore[untyped-decorator]
def read(path: str) -> Any:
    """What the server says there."""
    return db.tables.get(path).name


@app.task(bind=True, autoretry_for=(InternalServerError,), retry_backoff=False, default_retry_delay=0, max_retries=3)  # type: ignore[untyped-decorator]
def stubborn(self: Any, path: str) -> Any:
    """As ``read``; tried again by Celery where the server failed."""
    return [db.tables.get(path).name, self.request.retries]

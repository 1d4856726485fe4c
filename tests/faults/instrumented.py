"""A plugin, ``-p tests.faults.instrumented``: the run goes through OpenTelemetry's instrumentation of `requests`.

Each span is looked through for what must not be in one. What came of it is written, as JSON, to the file that
``SELFDB_SPANS`` names, once the run is over.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
from pathlib import Path
from typing import Any, List, Sequence

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a package that says at import what it will be without one day
    from opentelemetry.instrumentation.requests import RequestsInstrumentor
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

SECRETS = (
    "selfdb-key-of-the-tests",
    "scripted-key",
    "replies-key",
    "kit-key",
    "access-token-of-the-tests",
    "refresh-token-of-the-tests",
    "password123",
)
"""What the tests sign in with."""


class Kept(SpanExporter):
    """Counts spans and keeps those that tell too much."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = self.failed = 0
        self.telling: List[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._lock:
            for span in spans:
                self.count += 1
                self.failed += not span.status.is_ok
                text = text_of(span)
                if any(secret in text for secret in SECRETS):
                    self.telling.append(text)
        return SpanExportResult.SUCCESS


def text_of(span: ReadableSpan) -> str:
    """All that goes out with a span."""
    events = [(event.name, dict(event.attributes or {})) for event in span.events]
    return f"{span.name} {dict(span.attributes or {})} {events} {span.status.description}"


KEPT = Kept()


def instrument(exporter: SpanExporter, **options: Any) -> TracerProvider:
    """Instrument `requests` until `RequestsInstrumentor().uninstrument()`."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    RequestsInstrumentor().instrument(tracer_provider=provider, **options)
    return provider


def pytest_configure(config: pytest.Config) -> None:
    instrument(KEPT)


def pytest_unconfigure(config: pytest.Config) -> None:
    RequestsInstrumentor().uninstrument()
    path = os.environ.get("SELFDB_SPANS")
    if path:
        found = {"spans": KEPT.count, "failed": KEPT.failed, "telling": KEPT.telling}
        Path(path).write_text(json.dumps(found), encoding="utf-8")

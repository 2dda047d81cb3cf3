"""Reports of traces."""

from typing import Any

from stacpull_trace.report import TraceReport

_COUNTS = dict.fromkeys((f"days_{n}" for n in ("found", "valid", "unmapped", "mismatched", "failed")), 0)
_NOTHING: dict[str, Any] = {
    **_COUNTS, "state": "complete", "collection": "c", "period": "2023-11-01/2023-11-02", "resolution": 3.0,
    "index": "ndwi", "method": "mode", "width": 40, "height": 25, "tiles": 0, "requests_statistics": 0,
    "requests": 0, "retries": 0, "processing_units": 0.0, "seconds": 0.1,
}  # fmt: skip


def trace_report(**changes: Any) -> TraceReport:
    return TraceReport(**{**_NOTHING, **changes})

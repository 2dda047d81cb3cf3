"""Mirror datasets described by STAC: filtered, verified, resumable at any point.

    from stacpull import mirror, Selection

    report = await mirror(
        "https://api.example.org/mlhub/v1",
        "mirror",
        selection=Selection(collections="bigearthnet_v1_labels", labels="Rice fields", max_items=100),
    )

Every name is loaded when it is first used, so that `import stacpull` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stacpull.config.options import Options, S3Options
    from stacpull.config.profiles import profile_options
    from stacpull.engine.api import (
        ClassInfo,
        classes,
        collections,
        failures,
        mirror,
        plan,
        resume,
        retry,
        status,
    )
    from stacpull.engine.item_input import SourceLike
    from stacpull.engine.stream import mirror_events
    from stacpull.errors import (
        CredentialsError,
        DestinationError,
        InterruptedRunError,
        NotAMirrorError,
        SourceError,
        StacpullError,
        UsageError,
    )
    from stacpull.events import (
        AssetFailed,
        Checked,
        Damage,
        DamageKind,
        Event,
        HostProgress,
        ItemGone,
        Notice,
        Progress,
        RunEnded,
        RunStarted,
        Stage,
    )
    from stacpull.models import FailureKind, ItemId
    from stacpull.notebook import progress_bar
    from stacpull.outputs.export import export
    from stacpull.outputs.html_report import report
    from stacpull.redact import Secret
    from stacpull.reports import (
        ExportReport,
        FailureRecord,
        HostPlan,
        MergeReport,
        MirrorReport,
        PlanReport,
        RebuildReport,
        StatusReport,
        VerifyReport,
    )
    from stacpull.selection import Selection
    from stacpull.upkeep.shard_merge import merge
    from stacpull.upkeep.verify import verify
    from stacpull_headers.header_table import headers
    from stacpull_headers.headers_report import HeadersReport
    from stacpull_trace.report import ScenePixels, TraceDay, TraceEstimate, TraceReport
    from stacpull_trace.trace import trace, trace_estimate

__version__ = "0.1.0"

_HOMES = {
    "stacpull.config.profiles": ("profile_options",),
    "stacpull.config.options": ("Options", "S3Options"),
    "stacpull.engine.api": (
        "ClassInfo",
        "classes",
        "collections",
        "failures",
        "mirror",
        "plan",
        "resume",
        "retry",
        "status",
    ),
    "stacpull.engine.item_input": ("SourceLike",),
    "stacpull.upkeep.shard_merge": ("merge",),
    "stacpull_headers.header_table": ("headers",),
    "stacpull_headers.headers_report": ("HeadersReport",),
    "stacpull.engine.stream": ("mirror_events",),
    "stacpull_trace.trace": ("trace", "trace_estimate"),
    "stacpull.upkeep.verify": ("verify",),
    "stacpull.errors": (
        "CredentialsError",
        "DestinationError",
        "InterruptedRunError",
        "NotAMirrorError",
        "SourceError",
        "StacpullError",
        "UsageError",
    ),
    "stacpull.events": (
        "AssetFailed",
        "Checked",
        "Damage",
        "DamageKind",
        "Event",
        "HostProgress",
        "ItemGone",
        "Notice",
        "Progress",
        "RunEnded",
        "RunStarted",
        "Stage",
    ),
    "stacpull.outputs.export": ("export",),
    "stacpull.outputs.html_report": ("report",),
    "stacpull.models": ("FailureKind", "ItemId"),
    "stacpull.notebook": ("progress_bar",),
    "stacpull.redact": ("Secret",),
    "stacpull.reports": (
        "ExportReport",
        "FailureRecord",
        "HostPlan",
        "MergeReport",
        "MirrorReport",
        "PlanReport",
        "RebuildReport",
        "StatusReport",
        "VerifyReport",
    ),
    "stacpull.selection": ("Selection",),
    "stacpull_trace.report": ("ScenePixels", "TraceDay", "TraceEstimate", "TraceReport"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AssetFailed",
    "Checked",
    "ClassInfo",
    "CredentialsError",
    "Damage",
    "DamageKind",
    "DestinationError",
    "Event",
    "ExportReport",
    "FailureKind",
    "FailureRecord",
    "HeadersReport",
    "HostPlan",
    "HostProgress",
    "InterruptedRunError",
    "ItemGone",
    "ItemId",
    "MergeReport",
    "MirrorReport",
    "NotAMirrorError",
    "Notice",
    "Options",
    "PlanReport",
    "Progress",
    "RebuildReport",
    "RunEnded",
    "RunStarted",
    "S3Options",
    "ScenePixels",
    "Secret",
    "Selection",
    "SourceError",
    "SourceLike",
    "StacpullError",
    "Stage",
    "StatusReport",
    "TraceDay",
    "TraceEstimate",
    "TraceReport",
    "UsageError",
    "VerifyReport",
    "__version__",
    "classes",
    "collections",
    "export",
    "failures",
    "headers",
    "merge",
    "mirror",
    "mirror_events",
    "plan",
    "profile_options",
    "progress_bar",
    "report",
    "resume",
    "retry",
    "status",
    "trace",
    "trace_estimate",
    "verify",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'stacpull' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)

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
    from stacpull.config.options import Options as Options
    from stacpull.config.options import S3Options as S3Options
    from stacpull.engine.api import ClassInfo as ClassInfo
    from stacpull.engine.api import classes as classes
    from stacpull.engine.api import collections as collections
    from stacpull.engine.api import mirror as mirror
    from stacpull.engine.api import plan as plan
    from stacpull.engine.api import resume as resume
    from stacpull.engine.api import retry as retry
    from stacpull.engine.item_input import SourceLike as SourceLike
    from stacpull.engine.mirror_status import failures as failures
    from stacpull.engine.mirror_status import status as status
    from stacpull.engine.stream import mirror_events as mirror_events
    from stacpull.errors import CredentialsError as CredentialsError
    from stacpull.errors import DestinationError as DestinationError
    from stacpull.errors import InterruptedRunError as InterruptedRunError
    from stacpull.errors import NotAMirrorError as NotAMirrorError
    from stacpull.errors import SourceError as SourceError
    from stacpull.errors import StacpullError as StacpullError
    from stacpull.errors import UsageError as UsageError
    from stacpull.events import AssetFailed as AssetFailed
    from stacpull.events import Checked as Checked
    from stacpull.events import Damage as Damage
    from stacpull.events import DamageKind as DamageKind
    from stacpull.events import Event as Event
    from stacpull.events import HostProgress as HostProgress
    from stacpull.events import ItemGone as ItemGone
    from stacpull.events import Notice as Notice
    from stacpull.events import Progress as Progress
    from stacpull.events import RunEnded as RunEnded
    from stacpull.events import RunStarted as RunStarted
    from stacpull.events import Stage as Stage
    from stacpull.models import FailureKind as FailureKind
    from stacpull.models import ItemId as ItemId
    from stacpull.notebook import progress_bar as progress_bar
    from stacpull.redact import Secret as Secret
    from stacpull.reports import FailureRecord as FailureRecord
    from stacpull.reports import HostPlan as HostPlan
    from stacpull.reports import MirrorReport as MirrorReport
    from stacpull.reports import PlanReport as PlanReport
    from stacpull.reports import StatusReport as StatusReport
    from stacpull.reports import VerifyReport as VerifyReport
    from stacpull.selection import Selection as Selection
    from stacpull.upkeep.verify import verify as verify
    from stacpull_export.export import export as export
    from stacpull_export.formats import ExportReport as ExportReport
    from stacpull_export.html_report import report as report
    from stacpull_logins.profiles import profile_options as profile_options
    from stacpull_raster.header_table import headers as headers
    from stacpull_raster.headers_report import HeadersReport as HeadersReport
    from stacpull_trace.report import ScenePixels as ScenePixels
    from stacpull_trace.report import TraceDay as TraceDay
    from stacpull_trace.report import TraceEstimate as TraceEstimate
    from stacpull_trace.report import TraceReport as TraceReport
    from stacpull_trace.trace import trace as trace
    from stacpull_trace.trace import trace_estimate as trace_estimate

__version__ = "0.2.0"

_HOMES = {
    "stacpull_logins.profiles": ("profile_options",),
    "stacpull.config.options": ("Options", "S3Options"),
    "stacpull.engine.api": (
        "ClassInfo",
        "classes",
        "collections",
        "mirror",
        "plan",
        "resume",
        "retry",
    ),
    "stacpull.engine.item_input": ("SourceLike",),
    "stacpull.engine.mirror_status": ("failures", "status"),
    "stacpull_export.export": ("export",),
    "stacpull_export.formats": ("ExportReport",),
    "stacpull_export.html_report": ("report",),
    "stacpull_raster.header_table": ("headers",),
    "stacpull_raster.headers_report": ("HeadersReport",),
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
    "stacpull.models": ("FailureKind", "ItemId"),
    "stacpull.notebook": ("progress_bar",),
    "stacpull.redact": ("Secret",),
    "stacpull.reports": (
        "FailureRecord",
        "HostPlan",
        "MirrorReport",
        "PlanReport",
        "StatusReport",
        "VerifyReport",
    ),
    "stacpull.selection": ("Selection",),
    "stacpull_trace.report": ("ScenePixels", "TraceDay", "TraceEstimate", "TraceReport"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = list(_HOME_OF)
__all__ += ["__version__"]


def __getattr__(name: str) -> Any:
    if name == "sync":  # a module of its own, which `import stacpull` does not import
        return import_module("stacpull.sync")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'stacpull' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)

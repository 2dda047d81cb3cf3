"""The chart of a trace: the index at its acquisition times, the clear part of the area, the times of day.

Three panels share one axis, which spans the requested period. Top: the mean of each day at the time of its
main scene, with the standard deviation over the area as a band. Days with a small clear part are pale; days
whose main scene is not known are hollow; days without a mean are marked at the bottom. Middle: the clear part
of the area as a bar, divided by scene, largest first. Bottom: the time of day of each scene; the size of a
dot is the scene's share of the day's valid pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any, Final, Literal

from stacpull_trace.days import by_origin
from stacpull_trace.indices import INDICES
from stacpull_trace.report import DayState, ScenePixels, TraceDay, TraceReport
from stacpull_trace.request_plan import Days
from stacpull_trace.scene_map import OriginKind

ChartFormat = Literal["png", "svg", "pdf"]

_INK, _FAINT, _BAND = "#1b1f24", "#8a94a3", "#c9dcf2"
_LINE, _WARNING = "#1f5fa8", "#c4501b"
_RANKS: Final = ("#1f5fa8", "#5b9bd5", "#a9cdea", "#d7e6f4")
_KINDS: Final = {OriginKind.NONE: "#b9b9b9", OriginKind.UNMAPPED: _WARNING}
_LABELS: Final = ("largest scene", "second largest", "third largest", "others")
_NONE, _UNKNOWN = "no scene (None)", "scene not known"
_KNOWN_MEAN, _UNKNOWN_MEAN, _PALE, _SPREAD = (
    "mean, at the main scene's time (UTC)",
    "main scene not known",
    "pale: little of the area is clear",
    "± standard deviation over the area",
)
_EMPTY, _FAILED = "no valid pixel", "failed"
_DOT: Final = "a scene; size: its share of the day's valid pixels"
_ORDER: Final = (
    *(*_LABELS, _NONE, _UNKNOWN),
    *(_KNOWN_MEAN, _UNKNOWN_MEAN, _PALE, _SPREAD, _EMPTY, _FAILED),
    _DOT,
)
_NOON: Final = timedelta(hours=12)
_INCHES, _DOTS = (9.6, 7.6), 200
_FEW_DAYS, _MANY_DAYS, _LEGIBLE_DAYS = 16, 60, 120
_LEGEND_COLUMNS: Final = 4
_WIDEST_BAR: Final = 0.8
_ROOM_FOR_TIMES: Final = 0.2
_LEAST_HOURS: Final = 0.5
"""Smallest height of the panel of times; its labels have minutes."""
_PALEST: Final = 0.25
_PALE_BELOW: Final = 0.5
"""Days with a smaller clear part of the area than this are pale."""


def chart_bytes(report: TraceReport, kind: ChartFormat) -> bytes:
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to load
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    style: Any = {
        "font.size": 9,
        "axes.edgecolor": _FAINT,
        "axes.labelcolor": _INK,
        "svg.hashsalt": "stacpull",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=_INCHES, dpi=_DOTS, layout="constrained")
        FigureCanvasAgg(figure)
        upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.5, 1.5))
        first, _, last = report.period.partition("/")
        period = Days(date.fromisoformat(first), date.fromisoformat(last))
        _draw_series(upper, report, period)
        _draw_clear_part(middle, report, period)
        _draw_hours(lower, report, period)
        _finish((upper, middle, lower), report, period)
        out = io.BytesIO()
        undated: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
        figure.savefig(out, format=kind, dpi=_DOTS, metadata=undated)
    return out.getvalue()


def _place(day: TraceDay) -> datetime:
    """Return the position of a day on the axis: its acquisition time, or noon if that is not known."""
    return day.acquired or day.weighted or datetime.combine(day.date, time.min, tzinfo=UTC) + _NOON


def _strength(day: TraceDay) -> float:
    return _PALEST + (1 - _PALEST) * min(day.clear_share / _PALE_BELOW, 1.0)


def _tint(color: str, day: TraceDay) -> str:
    """Return a colour, `#rrggbb`, with the opacity of a day."""
    return f"{color}{round(255 * _strength(day)):02x}"


def _draw_series(axes: Any, report: TraceReport, period: Days) -> None:
    valid_days = [day for day in report.days if day.mean is not None]
    thickness = _thickness(period)
    if valid_days:
        low = [(day.mean or 0.0) - (day.st_dev or 0.0) for day in valid_days]
        high = [(day.mean or 0.0) + (day.st_dev or 0.0) for day in valid_days]
        colors = [_tint(_BAND, day) for day in valid_days]
        places = [_place(day) for day in valid_days]
        axes.vlines(places, low, high, colors, linewidth=6 * thickness, zorder=1, label=_SPREAD)
    _mark_means(axes, valid_days, 34 * thickness)
    for failed, marker, color, label in ((False, "|", _FAINT, _EMPTY), (True, "x", _WARNING, _FAILED)):
        places = [
            _place(day)
            for day in report.days
            if day.mean is None and (day.state is DayState.FAILED) is failed
        ]
        if places:
            where = axes.get_xaxis_transform()
            axes.scatter(
                places, [0.03] * len(places), transform=where, marker=marker, color=color, label=label
            )
    if len(valid_days) <= _FEW_DAYS:
        _write_times(axes, valid_days)
    axes.set_ylabel(f"{report.index.upper()}, mean of valid pixels")
    if not valid_days:
        axes.set_yticks([])
        axes.set_ylim(0, 1)
        days = "the only day" if len(report.days) == 1 else f"any of the {len(report.days)} days"
        text = f"No valid pixel on {days} with a tile"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=_INK, fontsize=11)


def _mark_means(axes: Any, days: Sequence[TraceDay], size: float) -> None:
    pale = [day for day in days if _strength(day) < 1]
    for known, fill, edge, label in (
        (True, _LINE, _LINE, _KNOWN_MEAN),
        (False, "#ffffff", _WARNING, _UNKNOWN_MEAN),
    ):
        group = [day for day in days if (day.acquired is not None) is known]
        if group:
            axes.scatter(
                [_place(day) for day in group],
                [day.mean for day in group],
                s=size,
                zorder=3,
                clip_on=False,
                facecolor=[_tint(fill, day) for day in group],
                edgecolor=[_tint(edge, day) for day in group],
                label=label,
            )
    if pale:  # only an entry in the legend
        axes.scatter([], [], s=size, color=_LINE, alpha=_PALEST, label=_PALE)


def _write_times(axes: Any, days: Sequence[TraceDay]) -> None:
    style = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 7, "color": _INK}
    for day in days:
        if day.acquired is not None:
            top = (day.mean or 0.0) + (day.st_dev or 0.0)
            axes.annotate(
                f"{day.acquired:%H:%M:%S}", (day.acquired, top), (0, 3), textcoords="offset points", **style
            )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + _ROOM_FOR_TIMES * (high - low))


def _draw_clear_part(axes: Any, report: TraceReport, period: Days) -> None:
    clear = {day.date: day.clear_share for day in report.days}
    tops = dict.fromkeys(clear, 0.0)
    parts: dict[tuple[str, str], list[tuple[datetime, float, float]]] = {}
    for row, label, color in bars(report.scenes):
        place = datetime.combine(row.date, time.min, tzinfo=UTC) + _NOON
        height = 100 * (row.share or 0.0) * clear[row.date]
        parts.setdefault((label, color), []).append((place, height, tops[row.date]))
        tops[row.date] += height
    width = timedelta(
        days=min(max(_WIDEST_BAR, len(period) / 320), 2.0) if len(period) > 1 else _WIDEST_BAR / 4
    )
    for (label, color), columns in parts.items():
        places, heights, bottoms = zip(*columns, strict=True)
        hatched = label == _UNKNOWN and len(period) <= _LEGIBLE_DAYS
        style = {"hatch": "////", "edgecolor": "white"} if hatched else {}
        axes.bar(places, heights, width, bottoms, color=color, linewidth=0, label=label, **style)
    axes.set_ylim(0, 100)
    axes.set_ylabel("clear part\nof the area (%)")


def bars(scenes: Sequence[ScenePixels]) -> Iterator[tuple[ScenePixels, str, str]]:
    """Yield the parts of all days' bars from the bottom up: scenes by size, then pixels without a scene."""
    for rows in _valid_rows_by_day(scenes):
        ranked = sorted(rows, key=lambda row: (row.kind is not OriginKind.SCENE, -row.pixels, row.name))
        for rank, row in enumerate(ranked):
            if row.kind is OriginKind.SCENE:
                yield row, _LABELS[min(rank, 3)], _RANKS[min(rank, 3)]
            elif row.kind is OriginKind.NONE:
                yield row, _NONE, _KINDS[OriginKind.NONE]
            else:
                yield row, _UNKNOWN, _KINDS[OriginKind.UNMAPPED]


def _valid_rows_by_day(scenes: Sequence[ScenePixels]) -> Iterator[list[ScenePixels]]:
    valid = sorted((row for row in scenes if row.share), key=lambda row: row.date)
    for _, rows in groupby(valid, key=lambda row: row.date):
        yield by_origin(rows)


def _draw_hours(axes: Any, report: TraceReport, period: Days) -> None:
    dots = [row for rows in _valid_rows_by_day(report.scenes) for row in rows if row.acquired is not None]
    axes.set_ylabel("time of day\n(UTC)")
    if not dots:
        axes.set_yticks([])
        return
    largest_first = sorted(dots, key=lambda row: -(row.share or 0.0))  # so that no dot is hidden
    axes.scatter(
        [row.acquired for row in largest_first],
        [_hours(row.acquired) for row in largest_first if row.acquired is not None],
        s=[8 + 52 * (row.share or 0) * _thickness(period) for row in largest_first],
        color=_LINE,
        edgecolor="white",
        linewidth=0.6,
        clip_on=False,
        zorder=3,
        label=_DOT,
    )
    low, high = axes.get_ylim()
    if high - low < _LEAST_HOURS:
        middle = (low + high) / 2
        axes.set_ylim(middle - _LEAST_HOURS / 2, middle + _LEAST_HOURS / 2)
    axes.locator_params(axis="y", nbins=6, steps=(1, 2.5, 5, 10))
    axes.yaxis.set_major_formatter(
        lambda hours, _: f"{int(hours * 60 + 0.5) // 60:02d}:{int(hours * 60 + 0.5) % 60:02d}"
    )


def _hours(moment: datetime) -> float:
    return moment.hour + moment.minute / 60 + (moment.second + moment.microsecond / 1e6) / 3600


def _thickness(period: Days) -> float:
    return 1.0 if len(period) <= _MANY_DAYS else 0.45


def _finish(panels: Sequence[Any], report: TraceReport, period: Days) -> None:
    from matplotlib import dates  # noqa: PLC0415

    marks: Any = dates  # its classes have no types
    for axes in panels:
        axes.set_xlim(period.interval.start, period.interval.end)
        axes.grid(axis="y", color="#e6e9ee", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK)
    rows, *_ = [_add_legend(axes) for axes in panels]
    locator = marks.AutoDateLocator(minticks=4, maxticks=12)
    panels[-1].xaxis.set_major_locator(locator)
    panels[-1].xaxis.set_major_formatter(marks.ConciseDateFormatter(locator, show_offset=False))
    panels[0].set_title(_title(report), loc="left", color=_INK, fontsize=9, pad=8 + 13 * rows)


def _title(report: TraceReport) -> str:
    from stacpull import __version__  # noqa: PLC0415 - the package imports this module

    known = INDICES.get(report.index)
    name = f"{report.index.upper()} = {known.formula}" if known else report.index.upper()
    bbox = report.question.get("bbox")
    within = "bounded by" if report.question.get("geometry") else "box"
    area = f"{within} {', '.join(f'{side:g}' for side in bbox)}; " if bbox else ""
    return (
        f"{' to '.join(dict.fromkeys(report.period.split('/')))}: {name}\n"
        f"Collection {report.collection}; {area}{report.width:,} by {report.height:,} pixels\n"
        f"{report.resolution:g} m per pixel; main scene by {report.method}; stacpull {__version__}"
    )


def _add_legend(axes: Any) -> int:
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return 0
    pairs = sorted(zip(labels, handles, strict=True), key=lambda pair: _ORDER.index(pair[0]))
    legend = axes.legend(
        [handle for _, handle in pairs],
        [label for label, _ in pairs],
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=min(len(pairs), _LEGEND_COLUMNS),
        frameon=False,
        fontsize=7.5,
        borderaxespad=0.1,
        handlelength=1.2,
        columnspacing=1.2,
    )
    for handle, (label, _) in zip(legend.legend_handles, pairs, strict=True):
        if label != _PALE:
            handle.set_alpha(1)
        if label == _DOT:
            handle.set_sizes([34])
    return -(-len(pairs) // _LEGEND_COLUMNS)

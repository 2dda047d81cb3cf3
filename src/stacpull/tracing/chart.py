"""The chart of a trace: the index at its real acquisition times, its scenes, and their time of day.

Three panels over one axis of dates. Top: the day's mean at the time of the scene that gave most pixels, with
the standard deviation of the pixels as a bar; a line only between days that follow each other in the table,
so that days without a valid pixel are gaps; days whose main scene is not known are hollow. Middle: each day's
valid pixels as bars, stacked by scene, largest first. Bottom: the time of day of each scene, as large as its
share.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import Any, Final

from stacpull.tracing.days import by_origin
from stacpull.tracing.report import DayState, ScenePixels, TraceDay
from stacpull.tracing.scene_map import Kind

__all__ = ["Chart", "bars", "png_bytes"]

_INK, _FAINT, _BAND = "#1b1f24", "#8a94a3", "#c9dcf2"
_LINE, _WARNING = "#1f5fa8", "#c4501b"
_RANKS: Final = ("#1f5fa8", "#5b9bd5", "#a9cdea", "#d7e6f4")
_KINDS: Final = {Kind.NONE: "#b9b9b9", Kind.UNMAPPED: _WARNING}
_LABELS: Final = ("largest scene", "second", "third", "others")
_NONE, _UNKNOWN = "no scene (None)", "scene not known"
_KNOWN_MEAN, _UNKNOWN_MEAN, _SPREAD = (
    "mean, at the main scene's time",
    "main scene not known",
    "± standard deviation",
)
_EMPTY, _FAILED = "no valid pixel", "failed"
_ORDER: Final = (*_LABELS, _NONE, _UNKNOWN, _KNOWN_MEAN, _UNKNOWN_MEAN, _SPREAD, _EMPTY, _FAILED)
_NOON: Final = timedelta(hours=12)
_INCHES, _DOTS = (9.6, 7.6), 110
_FEW_DAYS, _MANY_DAYS = 16, 60
_WIDEST_BAR: Final = 0.8
_ROOM_FOR_TIMES: Final = 0.18


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart shows."""

    index: str
    title: str
    days: Sequence[TraceDay]
    scenes: Sequence[ScenePixels]


def png_bytes(chart: Chart) -> bytes:
    """Draw a chart and return it as PNG, 1056 by 836 pixels."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to load
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({"font.size": 9, "axes.edgecolor": _FAINT, "axes.labelcolor": _INK}):
        figure = Figure(figsize=_INCHES, dpi=_DOTS, layout="constrained")
        canvas: Any = FigureCanvasAgg(figure)
        upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.5, 1.5))
        upper.set_title(chart.title, loc="left", color=_INK, pad=20)
        _draw_series(upper, chart)
        _draw_shares(middle, chart)
        _draw_hours(lower, chart)
        _dress(upper, middle, lower, chart)
        out = io.BytesIO()
        canvas.print_png(out)
    return out.getvalue()


def _place(day: TraceDay) -> datetime:
    """Return where a day stands on the axis: its acquisition time, noon where that is not known."""
    return day.acquired or day.weighted or datetime.combine(day.date, time.min, tzinfo=UTC) + _NOON


def _draw_series(axes: Any, chart: Chart) -> None:
    for run in _runs(chart.days):
        axes.plot(
            [_place(day) for day in run], [day.mean for day in run], color=_LINE, linewidth=1.1, zorder=2
        )
    some = [day for day in chart.days if day.mean is not None]
    ends = [((day.mean or 0.0), day.st_dev or 0.0) for day in some]
    if some:
        low, high = [mean - spread for mean, spread in ends], [mean + spread for mean, spread in ends]
        width = 2.2 * _thickness(chart.days)
        axes.vlines([_place(d) for d in some], low, high, _BAND, linewidth=width, zorder=1, label=_SPREAD)
    _mark_means(axes, some, 34 * _thickness(chart.days))
    _mark_gaps(axes, chart.days)
    if len(some) <= _FEW_DAYS:
        _name_times(axes, some)
    axes.set_ylabel(chart.index.upper())


def _mark_means(axes: Any, days: Sequence[TraceDay], size: float) -> None:
    styles: dict[bool, dict[str, Any]] = {
        True: {"color": _LINE, "label": _KNOWN_MEAN},
        False: {"facecolor": "white", "edgecolor": _WARNING, "label": _UNKNOWN_MEAN},
    }
    for known, style in styles.items():
        some = [day for day in days if (day.acquired is not None) is known]
        if some:
            axes.scatter([_place(day) for day in some], [day.mean for day in some], s=size, zorder=3, **style)


def _name_times(axes: Any, days: Sequence[TraceDay]) -> None:
    """Write each acquisition time above its day, where there is room for it."""
    style = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 7, "color": _INK}
    for day in days:
        if day.acquired is not None:
            top = (day.mean or 0.0) + (day.st_dev or 0.0)
            axes.annotate(
                f"{day.acquired:%H:%M:%S}", (day.acquired, top), (0, 3), textcoords="offset points", **style
            )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + _ROOM_FOR_TIMES * (high - low))


def _runs(days: Sequence[TraceDay]) -> Iterator[list[TraceDay]]:
    """Yield stretches of days that have a mean, as the table has them in sequence."""
    for valid, some in groupby(days, key=lambda day: day.mean is not None):
        if valid:
            yield list(some)


def _mark_gaps(axes: Any, days: Sequence[TraceDay]) -> None:
    """Mark at the foot of the panel the days that have no mean."""
    for failed, marker, color, label in (
        (False, "|", _FAINT, _EMPTY),
        (True, "x", _WARNING, _FAILED),
    ):
        some = [day for day in days if day.mean is None and (day.state is DayState.FAILED) is failed]
        if some:
            where = axes.get_xaxis_transform()
            places = [_place(day) for day in some]
            axes.scatter(places, [0.03] * len(some), transform=where, marker=marker, color=color, label=label)


def _draw_shares(axes: Any, chart: Chart) -> None:
    bottoms = dict.fromkeys([day.date for day in chart.days], 0.0)
    width = timedelta(days=_bar_width(chart.days))
    shown: set[str] = set()
    for row, label, color in bars(chart.scenes):
        place = datetime.combine(row.date, time.min, tzinfo=UTC) + _NOON
        name = None if label in shown else label
        shown.add(label)
        hatched = label == _UNKNOWN and len(chart.days) <= _MANY_DAYS
        style = {"hatch": "////", "edgecolor": "white"} if hatched else {}
        axes.bar(place, row.share, width, bottoms[row.date], color=color, linewidth=0, label=name, **style)
        bottoms[row.date] += row.share or 0.0
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of\nvalid pixels")


def bars(scenes: Sequence[ScenePixels]) -> Iterator[tuple[ScenePixels, str, str]]:
    """Yield the bars of all days from the bottom up: scenes by size, then what is none."""
    for rows in _joined(scenes):
        some = sorted(rows, key=lambda row: (row.kind is not Kind.SCENE, -row.pixels, row.name))
        for rank, row in enumerate(some):
            if row.kind is Kind.SCENE:
                yield row, _LABELS[min(rank, 3)], _RANKS[min(rank, 3)]
            elif row.kind is Kind.NONE:
                yield row, _NONE, _KINDS[Kind.NONE]
            else:
                yield row, _UNKNOWN, _KINDS[Kind.UNMAPPED]


def _joined(scenes: Sequence[ScenePixels]) -> Iterator[list[ScenePixels]]:
    """Yield the valid pixels of each day, those of one scene in several tiles as one."""
    valid = sorted((row for row in scenes if row.share), key=lambda row: row.date)
    for _, rows in groupby(valid, key=lambda row: row.date):
        yield by_origin(rows)


def _draw_hours(axes: Any, chart: Chart) -> None:
    some = [row for rows in _joined(chart.scenes) for row in rows if row.acquired is not None]
    axes.scatter(
        [row.acquired for row in some],
        [_hours(row.acquired) for row in some if row.acquired is not None],
        s=[8 + 52 * (row.share or 0) * _thickness(chart.days) for row in some],
        color=_LINE,
        alpha=0.75,
        linewidth=0,
    )
    axes.set_ylabel("time of day\n(UTC)")
    axes.locator_params(axis="y", nbins=6, steps=(1, 2.5, 5, 10))
    axes.yaxis.set_major_formatter(
        lambda hours, _: f"{int(hours * 60 + 0.5) // 60:02d}:{int(hours * 60 + 0.5) % 60:02d}"
    )


def _hours(moment: datetime) -> float:
    return moment.hour + moment.minute / 60 + (moment.second + moment.microsecond / 1e6) / 3600


def _thickness(days: Sequence[TraceDay]) -> float:
    return 1.0 if len(days) <= _MANY_DAYS else 0.45


def _bar_width(days: Sequence[TraceDay]) -> float:
    """Return the width of a bar in days: wide enough to be seen over a long period."""
    if not days:
        return _WIDEST_BAR
    span = (days[-1].date - days[0].date).days + 1
    return max(_WIDEST_BAR, min(span / 320, 2.0))


def _dress(upper: Any, middle: Any, lower: Any, chart: Chart) -> None:
    from matplotlib import dates  # noqa: PLC0415

    marks: Any = dates  # its classes have no types
    locator = marks.AutoDateLocator(minticks=4, maxticks=12)
    lower.xaxis.set_major_locator(locator)
    lower.xaxis.set_major_formatter(marks.ConciseDateFormatter(locator))
    for axes in (upper, middle, lower):
        axes.grid(axis="y", color="#e6e9ee", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK)
    for axes in (upper, middle):
        _legend(axes)
    if not chart.days:
        upper.text(0.5, 0.5, "no tile in this period", transform=upper.transAxes, ha="center", color=_FAINT)


def _legend(axes: Any) -> None:
    """Put the legend on one line above a panel, in the order of a stack from the bottom up."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    pairs = sorted(zip(labels, handles, strict=True), key=lambda pair: _ORDER.index(pair[0]))
    axes.legend(
        [handle for _, handle in pairs],
        [label for label, _ in pairs],
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=len(pairs),
        frameon=False,
        fontsize=8,
        borderaxespad=0.1,
        handlelength=1.2,
    )

"""The page of a summary: figures, a chart by day and the table, in one file without scripts or references."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from datetime import date
from importlib.resources import files
from string import Template

from attrs import frozen

from harness_async.cli.console import format_count, pluralize, sanitize
from harness_async.cli.summary_table import (
    Counts,
    Group,
    GroupBy,
    SummaryTable,
    format_share,
    shorten,
    sum_counts,
)

_MAX_NAME_LENGTH = 200
_MAX_BARS = 100
"""More bars are too thin to be seen on a phone."""

_DAYS_PER_BAR = (1, 7, 28, 364, 3640, 36400)
"""Days that a bar may cover. The last is enough for the whole calendar."""

_MAX_LABELS = 6
_PLOT_TOP, _PLOT_HEIGHT = 18, 200
"""Pixels. The SVG has no viewBox and x is in percent, so that its text keeps its size on a narrow page."""

_YEAR = 366
_LEGEND = (
    '<ul class="legend"><li><i class="failure"></i>failed</li><li><i class="other"></i>other</li>'
    '<li><i class="success"></i>succeeded</li></ul>'
)


def render_page(
    table: SummaryTable,
    shown: Sequence[Group],
    others: Sequence[Group],
    *,
    source: str,
    notes: Sequence[str] = (),
) -> str:
    """Render the page.

    Args:
        table: The counts.
        shown: The groups of the table.
        others: The groups that are shown as one row.
        source: The name of the input.
        notes: Remarks on the counts.
    """
    total = table.total
    share = format_share(total.failure, total.total) if table.has_status else format_share(0, 0)
    groups = len(shown) + len(others)
    heading = f"{table.noun.capitalize()}s by {table.by}"
    chart = None if table.day_range is None else _Chart.create(table)
    figures = (
        ("", f"{table.noun.capitalize()}s", f"{total.total:,}"),
        ("failed" if total.failure else "", "Failed", f"{total.failure:,}"),
        ("", "Failure share", share),
        ("", f"{str(table.by).capitalize()}s", f"{groups:,}"),
    )
    template = Template(files(__package__ or "").joinpath("summary.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=f"{heading}: {_escape(source)}",
        heading=heading,
        subtitle=_subtitle(table, source),
        figures="\n".join(f'<div class="{css}"><dt>{name}</dt><dd>{value}</dd></div>' for css, name, value in figures),
        legend=_LEGEND,
        chart_heading=f"{table.noun.capitalize()}s by day" if chart is None else chart.heading,
        chart='<p class="muted">No row has a time.</p>' if chart is None else chart.render(),
        table_heading=f"By {table.by}",
        caption=_caption(table),
        headers=_headers(table),
        rows=_rows(table, shown, others),
        total=_row(table, "Total", total, 0 if table.by is GroupBy.DAY else None),
        notes=_notes(notes),
    )


def _escape(text: str) -> str:
    """Escape HTML, and show control characters."""
    return html.escape(sanitize(shorten(text, _MAX_NAME_LENGTH)).plain)


def _subtitle(table: SummaryTable, source: str) -> str:
    if table.day_range is None:
        return _escape(source)
    first, last = table.day_range
    period = f"{first}" if first == last else f"{first} to {last}"
    return f'{_escape(source)}, <span class="period">{period} (UTC)</span>'


def _caption(table: SummaryTable) -> str:
    if table.by is GroupBy.DAY:
        return f"In the order of the calendar. The length of a bar is the number of {table.noun}s."
    return "The highest failure share first. A bar shows the shares of the row."


def _headers(table: SummaryTable) -> str:
    names = (f"{table.noun}s".capitalize(), "Failed", "Other", "Succeeded", "Failure share", "Outcomes")
    return "".join(
        f'<th scope="col" role="columnheader"{css}>{name}</th>'
        for name in (str(table.by).capitalize(), *names)
        for css in [' class="detail"' if name in {"Other", "Succeeded"} else ""]
    )


def _rows(table: SummaryTable, shown: Sequence[Group], others: Sequence[Group]) -> str:
    is_day = table.by is GroupBy.DAY
    scale = max((group.counts.total for group in shown), default=0) if is_day else None
    # Long names may be broken after the signs that join their words.
    names = [re.sub(r"([/_.-])(?=\w)", r"\1<wbr>", _escape(group.label)) for group in shown]
    rows = [_row(table, name, group.counts, scale) for name, group in zip(names, shown, strict=True)]
    if others:
        name = f"and {len(others):,} {'earlier' if is_day else 'more'}"
        more = _row(table, name, sum_counts(others), 0 if is_day else None, css="more")
        rows.insert(0 if is_day else len(rows), more)
    return "\n".join(rows) or '<tr role="row"><td role="cell" colspan="7" class="muted">No rows.</td></tr>'


def _row(table: SummaryTable, name: str, counts: Counts, scale: int | None = None, css: str = "") -> str:
    share = format_share(counts.failure, counts.total) if table.has_status else format_share(0, 0)
    bad = "bad" if counts.failure else "zero"
    return (
        f'<tr role="row" class="{css}"><th scope="row" role="rowheader">{name}</th>'
        f'<td role="cell" data-label="{pluralize(counts.total, table.noun)}">{counts.total:,}</td>'
        f'<td role="cell" data-label="failed" class="{bad}">{counts.failure:,}</td>'
        f'<td role="cell" class="detail">{counts.other:,}</td>'
        f'<td role="cell" class="detail">{counts.success:,}</td>'
        f'<td role="cell" class="share" data-label="failure share">{share}</td>'
        f'<td role="cell" class="wide-bar">{_bar(counts, scale)}</td></tr>'
    )


def _bar(counts: Counts, scale: int | None) -> str:
    """Return a bar of the full width, or of a width in proportion to `scale`. The numbers of the row say the same."""
    whole = counts.total if scale is None else scale
    if not whole:
        return ""
    parts = (("failure", counts.failure), ("other", counts.other), ("success", counts.success))
    pieces = [f'<i class="{css}" style="width:{number / whole:.3%}"></i>' for css, number in parts if number]
    return f'<div class="bar" aria-hidden="true">{"".join(pieces)}</div>'


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{_escape(note)}</li>" for note in notes)
    heading = '<h2 id="notes-heading">Notes</h2>'
    return f'<section aria-labelledby="notes-heading">{heading}<ul class="notes">{items}</ul></section>'


@frozen
class _Chart:
    """Stacked bars of equal periods, failures at the bottom, where they can be compared."""

    noun: str
    first: int
    days_per_bar: int
    bars: Sequence[Counts]
    top: int
    """The value of the upper grid line."""

    step: int

    @classmethod
    def create(cls, table: SummaryTable) -> _Chart:
        """Choose the periods, and the grid lines."""
        known = {day: counts for day, counts in table.days.items() if day is not None}
        first, last = min(known), max(known)
        days_per_bar = next(days for days in _DAYS_PER_BAR if (last - first) // days < _MAX_BARS)
        bars = [Counts() for _ in range((last - first) // days_per_bar + 1)]
        for day, counts in known.items():
            bars[(day - first) // days_per_bar].add(counts)
        highest = max(bar.total for bar in bars)
        step = _nice_step(highest)
        return cls(
            noun=table.noun,
            first=first,
            days_per_bar=days_per_bar,
            bars=bars,
            top=-(-highest // step) * step,
            step=step,
        )

    @property
    def heading(self) -> str:
        """What a bar is."""
        period = "day" if self.days_per_bar == 1 else f"period of {self.days_per_bar:,} days"
        return f"{self.noun.capitalize()}s per {period}"

    def render(self) -> str:
        """Return the SVG, and the same numbers as a table."""
        highest = max(range(len(self.bars)), key=lambda index: self.bars[index].total)
        failures = max(range(len(self.bars)), key=lambda index: self.bars[index].failure)
        description = (
            f"{len(self.bars):,} stacked bars. "
            f"Most {self.noun}s: {self.bars[highest].total:,}, {self._period(highest)}. "
            f"Most failures: {self.bars[failures].failure:,}, {self._period(failures)}."
        )
        return (
            f'<svg role="img" aria-labelledby="chart-title" aria-describedby="chart-description">'
            f'<title id="chart-title">{self.heading}, by outcome</title>'
            f'<desc id="chart-description">{description}</desc>'
            '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect width="5" height="5" style="fill:var(--other-back)"/>'
            '<rect width="1.8" height="5" style="fill:var(--other)"/></pattern></defs>\n'
            f"{self._grid()}\n{self._bars()}\n{self._labels()}</svg>\n{self._details()}"
        )

    def _y(self, value: float) -> float:
        return _PLOT_TOP + _PLOT_HEIGHT * (1 - value / self.top)

    def _grid(self) -> str:
        lines = []
        for value in range(0, self.top + 1, self.step):
            y = self._y(value)
            css = "grid" if value else "axis"
            lines.append(f'<line class="{css}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
            if value:
                lines.append(f'<text x="0" y="{y - 4:.1f}">{value:,}</text>')
        return "".join(lines)

    def _bars(self) -> str:
        slot = 100 / len(self.bars)
        width = min(slot * 0.8, 6)
        pieces = []
        for index, counts in enumerate(self.bars):
            if not counts.total:
                continue
            x = index * slot
            parts, bottom = [], 0
            for css, number in (("f", counts.failure), ("o", counts.other), ("s", counts.success)):
                if number:
                    upper, lower = self._y(bottom + number), self._y(bottom)
                    parts.append(
                        f'<rect class="{css}" x="{x + (slot - width) / 2:.3f}%" width="{width:.3f}%" '
                        f'y="{upper:.1f}" height="{max(lower - upper, 1):.1f}"/>'
                    )
                bottom += number
            pieces.append(
                f"<g><title>{self._period(index)}: {self._describe(counts)}</title>"
                f'<rect class="hit" x="{x:.3f}%" width="{slot:.3f}%" y="{_PLOT_TOP}" height="{_PLOT_HEIGHT}"/>'
                f"{''.join(parts)}</g>"
            )
        return "\n".join(pieces)

    def _labels(self) -> str:
        """Return labels of the x axis, of which every second is hidden on a narrow page."""
        number = len(self.bars)
        every = -(-number // _MAX_LABELS)
        slot = 100 / number
        y = _PLOT_TOP + _PLOT_HEIGHT + 20
        labels = []
        for position, index in enumerate(range(0, number, every)):
            css = ' class="minor"' if position % 2 else ""
            anchor = "start" if index == 0 and number > _MAX_LABELS else "middle"
            x = 0 if anchor == "start" else (index + 0.5) * slot
            labels.append(f'<text{css} x="{x:.3f}%" y="{y}" text-anchor="{anchor}">{self._label(index)}</text>')
        return "".join(labels)

    def _day(self, index: int) -> date:
        return date.fromordinal(min(self.first + index * self.days_per_bar, date.max.toordinal()))

    def _label(self, index: int) -> str:
        day = self._day(index)
        if len(self.bars) * self.days_per_bar > _YEAR:
            return day.strftime("%b ") + str(day.year)
        return f"{day.day} {day:%b}"

    def _period(self, index: int) -> str:
        first = self._day(index)
        if self.days_per_bar == 1:
            return first.isoformat()
        last = date.fromordinal(min(first.toordinal() + self.days_per_bar - 1, date.max.toordinal()))
        return f"{first} to {last}"

    def _describe(self, counts: Counts) -> str:
        return (
            f"{format_count(counts.total, self.noun)}, {counts.failure:,} failed "
            f"({format_share(counts.failure, counts.total)}), {counts.other:,} other, {counts.success:,} succeeded"
        )

    def _details(self) -> str:
        names = ("Day" if self.days_per_bar == 1 else "Days", f"{self.noun.capitalize()}s", "Failed", "Other")
        head = "".join(f'<th scope="col">{name}</th>' for name in (*names, "Succeeded", "Failure share"))
        rows = "\n".join(
            f'<tr><th scope="row">{self._period(index)}</th><td>{counts.total:,}</td><td>{counts.failure:,}</td>'
            f"<td>{counts.other:,}</td><td>{counts.success:,}</td>"
            f"<td>{format_share(counts.failure, counts.total)}</td></tr>"
            for index, counts in enumerate(self.bars)
            if counts.total
        )
        return (
            '<details><summary>The chart as a table</summary><div class="scroll" tabindex="0"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div></details>"
        )


def _nice_step(highest: int) -> int:
    """Return the distance of grid lines: 1, 2 or 5 times a power of ten, with at most four lines."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if highest <= 4 * step * factor:
                return step * factor
        step *= 10

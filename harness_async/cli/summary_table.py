"""Counts of rows by project, pipeline, workspace or day. Pure; memory depends on the number of groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, TypeAlias

from attrs import define, field, frozen

from harness_async import ActivityStatus, ExecutionStatus, PipelineStatus, WorkspaceStatus

_DAY_MILLISECONDS = 24 * 60 * 60 * 1000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

_MAX_INT_DIGITS = 20
"""Longer numbers in CSV are no times, and `int` is slow for them."""

_MAX_LISTED_WORDS = 3
_MAX_LISTED_COLUMNS = 12
_MAX_WORD_LENGTH = 40

_FAILURES = frozenset({"failure", "failed", "errored", "expired"})
_SUCCESSES = frozenset({"success"})
_KNOWN_WORDS = frozenset(
    str(word).casefold()
    for words in (ExecutionStatus, PipelineStatus, ActivityStatus, WorkspaceStatus)
    for word in words
)

_MILLISECONDS_COLUMNS = ("start_ts", "created")
_ISO_COLUMNS = ("started_at", "created_at")
"""Columns with the time of a row. A pipeline execution that has not started has only that of its creation."""

Key: TypeAlias = tuple[str | None, ...]
"""The members that name a group, such as organization and project. None where a row has none."""


class GroupBy(StrEnum):
    """What the rows are grouped by."""

    PROJECT = "project"
    PIPELINE = "pipeline"
    WORKSPACE = "workspace"
    DAY = "day"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that name a group. Those of a day are chosen from several."""
        if self is GroupBy.DAY:
            return ("day",)
        return ("org", "project") if self is GroupBy.PROJECT else ("org", "project", str(self))


class UnsuitableRowsError(ValueError):
    """The rows lack the columns of the group. The message names what is missing, and `hint` what is possible."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@define
class Counts:
    """Rows by outcome."""

    success: int = 0
    failure: int = 0
    other: int = 0
    """Unfinished, aborted, rejected, skipped, and all words that are not known."""

    @property
    def total(self) -> int:
        """All rows."""
        return self.success + self.failure + self.other

    @property
    def failure_share(self) -> float:
        """Failures among all rows, 0 to 1."""
        return self.failure / self.total if self.total else 0.0

    def add(self, counts: Counts) -> None:
        """Add other counts to these."""
        self.success += counts.success
        self.failure += counts.failure
        self.other += counts.other


@frozen
class Group:
    """The counts of a project, pipeline, workspace or day."""

    key: Key
    counts: Counts

    @property
    def label(self) -> str:
        """The key as text: org/project."""
        return "/".join("(unknown)" if part is None else part for part in self.key)


@define
class SummaryTable:
    """The counts of rows, which are added one by one."""

    by: GroupBy
    total: Counts = field(factory=Counts, init=False)
    days: dict[int | None, Counts] = field(factory=dict[int | None, Counts], init=False)
    """Counts by the ordinal of the UTC day. None: rows without a time."""

    has_status: bool = field(default=False, init=False)
    """Whether any row has a status."""

    _groups: dict[Key, Counts] = field(factory=dict[Key, Counts], init=False)
    _columns: list[str] = field(factory=list[str], init=False)
    _has_group: bool = field(default=False, init=False)
    _has_executions: bool = field(default=True, init=False)
    _unnamed: Counter[str] = field(factory=Counter[str], init=False)
    """Rows by the column that has no value."""

    _unknown_words: list[str] = field(factory=list[str], init=False)
    _unknown_rows: int = field(default=0, init=False)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row."""
        if not self._columns:
            self._columns = list(map(str, row))
            self._has_executions = bool({"pipeline_stage_id", "plan_execution_id"} & row.keys()) and "id" not in row
        outcome = self._outcome(row)
        day = _parse_day(row)
        counts = [self.total, self.days.setdefault(day, Counts())]
        if self.by is GroupBy.DAY:
            self._has_group = self._has_group or day is not None or any(map(row.__contains__, _ISO_COLUMNS))
        else:
            counts.append(self._groups.setdefault(self._parse_key(row), Counts()))
        if day is None:
            self._unnamed["time"] += 1
        for each in counts:
            setattr(each, outcome, getattr(each, outcome) + 1)

    def _parse_key(self, row: Mapping[str, Any]) -> Key:
        names = self.by.columns
        key = tuple([value if isinstance(value := row.get(name), str) and value else None for name in names])
        self._has_group = self._has_group or names[-1] in row
        if None in key:
            self._unnamed[names[key.index(None)]] += 1
        return key

    def _outcome(self, row: Mapping[str, Any]) -> str:
        word = row.get("status")
        self.has_status = self.has_status or "status" in row
        if not isinstance(word, str) or not word:
            self._unnamed["status"] += 1
            return "other"
        folded = word.casefold()
        if folded in _SUCCESSES:
            return "success"
        if folded in _FAILURES:
            return "failure"
        if folded not in _KNOWN_WORDS:
            self._unknown_rows += 1
            if len(self._unknown_words) <= _MAX_LISTED_WORDS and (short := shorten(word, _MAX_WORD_LENGTH)) not in (
                self._unknown_words
            ):
                self._unknown_words.append(short)
        return "other"

    def check(self) -> None:
        """Check that the rows could be grouped.

        Raises:
            UnsuitableRowsError: No row has the column of the group.
        """
        if self._has_group or not self.total.total:
            return
        missing = "time (start_ts, created, started_at or created_at)" if self.by is GroupBy.DAY else str(self.by)
        shown = ", ".join(shorten(name, _MAX_WORD_LENGTH) for name in self._columns[:_MAX_LISTED_COLUMNS])
        more = ", ..." if len(self._columns) > _MAX_LISTED_COLUMNS else ""
        possible = [str(by) for by in GroupBy if by is not GroupBy.DAY and by.columns[-1] in self._columns]
        if self.day_range is not None:
            possible.append(str(GroupBy.DAY))
        raise UnsuitableRowsError(
            f"The rows have no {missing}, only {shown}{more}." if shown else f"The rows have no {missing}.",
            f"Use --by {_join_or(possible)}." if possible else "Use a file that harness-async export wrote.",
        )

    @property
    def noun(self) -> str:
        """What a row is, in the singular."""
        return "execution" if self._has_executions else "row"

    @property
    def day_range(self) -> tuple[date, date] | None:
        """The first and the last day. None without times."""
        known = [day for day in self.days if day is not None]
        return (date.fromordinal(min(known)), date.fromordinal(max(known))) if known else None

    def groups(self) -> list[Group]:
        """Return the groups: the highest failure share first, then most rows, then by name. Days in order."""
        if self.by is GroupBy.DAY:
            known = sorted(day for day in self.days if day is not None)
            groups = [Group((date.fromordinal(day).isoformat(),), self.days[day]) for day in known]
            return [*groups, Group((None,), self.days[None])] if None in self.days else groups
        groups = [Group(key, counts) for key, counts in self._groups.items()]
        groups.sort(
            key=lambda group: (
                -group.counts.failure_share,
                -group.counts.total,
                [(part is None, part or "") for part in group.key],
            )
        )
        return groups

    def notes(self) -> list[str]:
        """Return what a reader must know of the counts: missing values and unknown words."""
        notes = []
        total = self.total.total
        for name in (*self.by.columns, "status", "time"):
            if not (number := self._unnamed[name]):
                continue
            which = f"The {self.noun}s have" if number == total else f"{count_phrase(number, self.noun, 'has', 'have')}"
            effect = {
                "status": "counted as other" if self.has_status else "the failure share is unknown",
                "time": "counted under (unknown)" if self.by is GroupBy.DAY else "not in the counts by day",
            }.get(name, "counted under (unknown)")
            notes.append(f"{which} no {name}: {effect}.")
        if self._unknown_rows:
            shown = ", ".join(map(repr, self._unknown_words[:_MAX_LISTED_WORDS]))
            more = ", ..." if len(self._unknown_words) > _MAX_LISTED_WORDS else ""
            which = count_phrase(self._unknown_rows, self.noun, "has a status", "have a status")
            notes.append(f"{which} that this version does not know: counted as other ({shown}{more}).")
        return notes


def split_groups(groups: Sequence[Group], top: int | None, by: GroupBy) -> tuple[Sequence[Group], Sequence[Group]]:
    """Return the groups to show, and the others: the best ones, or the earliest days."""
    if top is None or len(groups) <= top:
        return groups, ()
    if by is GroupBy.DAY:
        return groups[-top:], groups[:-top]
    return groups[:top], groups[top:]


def sum_counts(groups: Sequence[Group]) -> Counts:
    """Return the sum of the counts of groups."""
    total = Counts()
    for group in groups:
        total.add(group.counts)
    return total


def format_share(part: int, whole: int) -> str:
    """Format a share as a percentage. Only none is 0.0% and only all is 100.0%."""
    if not whole:
        return "–"  # noqa: RUF001 - an en dash, for no value
    text = f"{part / whole:.1%}"
    if text == "0.0%" and part:
        return "<0.1%"
    return ">99.9%" if text == "100.0%" and part < whole else text


def count_phrase(number: int, noun: str, singular: str, plural: str) -> str:
    """Format a number of things with its verb: 1 row has, 2 rows have."""
    return f"{number:,} {noun} {singular}" if number == 1 else f"{number:,} {noun}s {plural}"


def shorten(text: str, length: int) -> str:
    """Return the text, or its beginning and an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def apportion(counts: Counts, width: int) -> tuple[int, int, int]:
    """Divide the cells of a bar into failure, other and success. Every part that is not zero has at least one cell."""
    parts = (counts.failure, counts.other, counts.success)
    if not (whole := sum(parts)):
        return (0, 0, 0)
    width = max(width, sum(map(bool, parts)))
    cells = [max(bool(part), round(part * width / whole)) for part in parts]
    cells[cells.index(max(cells))] += width - sum(cells)
    return (cells[0], cells[1], cells[2])


def _join_or(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _parse_day(row: Mapping[str, Any]) -> int | None:
    """Return the ordinal of the UTC day of a row. None if it has no time, or one that fits no calendar."""
    for name in _MILLISECONDS_COLUMNS:
        value = row.get(name)
        if isinstance(value, str) and len(value) <= _MAX_INT_DIGITS and value.isascii() and value.isdigit():
            value = int(value)
        if isinstance(value, int) and value and not isinstance(value, bool):
            ordinal = value // _DAY_MILLISECONDS + _EPOCH_ORDINAL
            if date.min.toordinal() <= ordinal <= date.max.toordinal():
                return ordinal
    for name in _ISO_COLUMNS:
        value = row.get(name)
        if isinstance(value, str) and value:
            try:
                time = datetime.fromisoformat(value)
                return (time.astimezone(UTC) if time.tzinfo else time).toordinal()
            except (ValueError, OverflowError):
                continue
    return None

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest

from harness_async.testing import FakeHarness
from harness_async.testing.data.collection import COLLECTIONS, CollectionName
from harness_async.testing.data.table import HASH, NUMBER, TIME, Ordering, Row, Table, View, getter

NOW = 1_700_000_000.0


def still() -> float:
    return NOW


@pytest.mark.parametrize(("projects", "executions"), [(1, 0), (20, 500)])
def test_seeded_numbers(projects: int, executions: int) -> None:
    """There are as many projects and executions as requested, and an organization per eight projects."""
    fake = FakeHarness.seeded(projects, executions, clock=still)
    assert len(fake.projects) == len(set(fake.projects)) == projects
    assert len(fake.all_executions()) == executions
    assert len(fake.organizations) == -(-projects // 8)
    with pytest.raises(ValueError, match="project"):
        FakeHarness.seeded(0, 1)


def test_seeded_data_is_realistic() -> None:
    """Executions are uneven over projects, more recent than old, mostly successful, and some ids begin with - or _."""
    fake = FakeHarness.seeded(20, 5000, clock=still)
    rows = fake.all_executions()
    counts = Counter((row["org"], row["project"]) for row in rows)
    assert len(counts) < 20
    assert max(counts.values()) > 1000
    ages = sorted(NOW - row["created"] / 1000 for row in rows)
    assert ages[0] >= 0
    assert ages[-1] <= 90 * 86_400
    assert ages[len(ages) // 2] < 30 * 86_400
    statuses = Counter(row["status"] for row in rows)
    assert 0.75 < statuses["success"] / len(rows) < 0.85
    assert 0.10 < statuses["failure"] / len(rows) < 0.14
    assert 0.05 < statuses["none"] / len(rows) < 0.11
    starts = {row["pipeline_execution_id"][0] for row in rows}
    assert {"-", "_"} <= starts
    assert {len(row["pipeline_stage_id"]) for row in rows} == {22}
    busiest = counts.most_common(1)[0][0]
    assert len({row["workspace"] for row in fake.executions(*busiest)}) > 2


@pytest.mark.parametrize("member", [TIME, NUMBER, HASH, "name"])
@pytest.mark.parametrize("descending", [True, False])
def test_a_table_stays_sorted(member: str, descending: bool) -> None:
    """Whatever is added, replaced and removed, a table is sorted as by a new sort; missing values come first."""
    rng, table, read = random.Random(5), Table(), getter(member)
    view = View(Ordering(member, descending))
    kept: dict[tuple[str, ...], Row] = {}
    for number in range(400):
        if kept and rng.random() < 0.3:
            key = rng.choice(list(kept))
            assert table.remove(key) is kept.pop(key)
        key = (str(rng.randrange(200)),)
        wire = {"name": rng.choice("abc")} if rng.random() < 0.8 else {}
        kept[key] = Row(wire, key, rng.randrange(50), number)
        table.put(kept[key])
        if number % 7 == 0:
            expected = sorted(
                kept.values(),
                key=lambda row: (read(row) is not None, read(row) if read(row) is not None else 0, row.number),
                reverse=descending,
            )
            for start, stop in ((0, 9), (3, 8), (len(kept) - 2, len(kept) + 5), (len(kept) + 1, len(kept) + 2)):
                assert table.slice(view, rng, start, stop) == expected[start:stop]
    assert len(table) == len(kept)
    assert set(map(id, table)) == set(map(id, kept.values()))
    assert table.remove(("no such",)) is None


def test_many_sort_members() -> None:
    """A table that was sorted by many members is still sorted by each."""
    table, rng = Table(), random.Random(0)
    for number in range(10):
        table.put(Row({f"m{member}": (number * member) % 11 for member in range(1, 8)}, (str(number),), 0, number))
    for _ in range(2):
        for member in range(1, 8):
            rows = table.slice(View(Ordering(f"m{member}", descending=False)), rng)
            values = [row.wire[f"m{member}"] for row in rows]
            assert values == sorted(values)


def test_seeded_rows_match() -> None:
    """The rows of all collections of a seed belong together, and are the same for the same seed."""
    fake, again = FakeHarness.seeded(6, 600, clock=still), FakeHarness.seeded(6, 600, clock=still)
    assert fake.all_executions() != FakeHarness.seeded(6, 600, seed=2, clock=still).all_executions()
    for scope in fake.projects:
        for collection in COLLECTIONS:
            name: CollectionName = collection  # type: ignore[assignment]
            assert fake.rows(name, *scope) == again.rows(name, *scope)
        executions = {row["pipeline_execution_id"]: row for row in fake.executions(*scope)}
        runs = {row["planExecutionId"]: row for row in fake.rows("pipeline_executions", *scope)}
        workspaces = {row["identifier"] for row in fake.rows("workspaces", *scope)}
        pipelines = {row["identifier"] for row in fake.rows("pipelines", *scope)}
        assert executions.keys() <= runs.keys()
        assert {row["pipelineIdentifier"] for row in runs.values()} <= pipelines
        assert {row["workspace"] for row in executions.values()} <= workspaces
        assert {row["workspace_id"] for row in fake.rows("workspace_costs", *scope)} <= workspaces
        for name in ("activities", "approvals", "costs"):
            for row in fake.rows(name, *scope):
                execution = executions[row.get("metadata", row)["pipeline_execution_id"]]
                assert execution["workspace"] == row.get("workspace", row.get("workspace_id"))
        for key, execution in executions.items():
            assert (runs[key]["status"] == "Success") == (execution["status"] == "success")
            assert runs[key]["startTs"] < execution["created"]
        assert {row["type"] for row in fake.rows("environments", *scope)} == {"PreProduction", "Production"}
        assert len(fake.rows("services", *scope)) >= 2
    modes = Counter(row["executionMode"] for scope in fake.projects for row in fake.rows("pipeline_executions", *scope))
    assert modes["POST_EXECUTION_ROLLBACK"] > 0
    assert len(fake.rows("audit_events")) > 6


def test_the_rows_of_a_seed_change_no_executions() -> None:
    """An execution that is added to seeded data has an id that only the seed determines."""
    one, other = (FakeHarness.seeded(2, 10, seed=9, clock=still) for _ in range(2))
    other.add_service("default", "payments", "checkout")
    assert one.add_execution("default", "payments") == other.add_execution("default", "payments")


def test_bulk_rows() -> None:
    """Rows that are added in bulk are evenly apart and the last one is newest, with consecutive runs."""
    fake = FakeHarness(clock=still)
    rows = fake.add_pipeline_executions("default", "payments", 500, apart=1000, pipeline="deploy", superseded=True)
    stored = fake.rows("pipeline_executions", "default", "payments")
    assert stored == rows[::-1]
    assert len({row["planExecutionId"] for row in rows}) == 500
    assert [row["startTs"] for row in rows] == [int(NOW * 1000) - 1000 * (499 - index) for index in range(500)]
    assert {row["endTs"] - row["startTs"] for row in rows} == {60_000}
    assert [row["runSequence"] for row in rows] == list(range(1, 501))
    assert fake.add_pipeline_execution("default", "payments", pipeline="deploy")["runSequence"] == 501
    assert fake.add_pipeline_executions("default", "payments", 0) == []


def test_changed_rows() -> None:
    """Members are replaced by name or by path, and a new time moves the row."""
    fake = FakeHarness(clock=still)
    rows = fake.add_rows("activities", "default", "payments", 3)
    changed = fake.change("activities", rows[0], created=int(NOW * 1000) + 5, **{"metadata.activity_status": "failure"})
    assert changed["metadata"] == {**rows[0]["metadata"], "activity_status": "failure"}
    assert fake.rows("activities", "default", "payments")[0] == changed


@pytest.mark.parametrize(
    ("collection", "identity"),
    [
        ("executions", {"pipeline_execution_id": "e", "pipeline_stage_id": "s"}),
        ("pipeline_executions", {"plan_execution_id": "e"}),
        ("audit_events", {"insert_id": "e"}),
    ],
)
def test_taken_identities(collection: CollectionName, identity: dict[str, Any]) -> None:
    """Two rows of a project cannot have the same identity, rows of two projects can."""
    fake = FakeHarness()
    fake.add_row(collection, "default", "payments", **identity)
    if collection != "audit_events":
        fake.add_row(collection, "default", "network", **identity)
    with pytest.raises(ValueError, match="already"):
        fake.add_row(collection, "default", "payments", **identity)


def test_removing_projects() -> None:
    """Removing a project removes its executions and no others."""
    fake = FakeHarness()
    fake.add_execution("default", "payments")
    row = fake.add_execution("default", "network")
    fake.remove_project("default", "payments")
    assert fake.projects == [("default", "network")]
    assert fake.all_executions() == [row]
    assert fake.clock is time.time
    with pytest.raises(KeyError):
        fake.remove_project("default", "payments")
    with pytest.raises(KeyError):
        fake.executions("default", "payments")
    fake.remove_organization("default")
    assert (fake.projects, fake.organizations) == ([], {})
    with pytest.raises(KeyError):
        fake.remove_organization("default")


def test_projects_that_differ_in_case() -> None:
    """Of two projects that differ only in case each is found by its own spelling, a third one finds the first."""
    fake = FakeHarness()
    fake.add_project("default", "Pay")
    fake.add_project("default", "pay")
    assert fake.spelling("default", "pay") == ("default", "pay")
    assert fake.spelling("DEFAULT", "PAY") == ("default", "Pay")
    fake.remove_project("default", "Pay")
    assert fake.spelling("DEFAULT", "PAY") == ("default", "pay")
    fake.remove_project("default", "pay")
    assert fake.spelling("DEFAULT", "PAY") == ("DEFAULT", "PAY")

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest

from harness_async.testing import Churn, FakeHarness
from harness_async.testing.data.table import Row, Table

NOW = 1_700_000_000.0
LIST = "/iacm/api/orgs/default/projects/payments/executions"


def still() -> float:
    return NOW


def test_seeded_data_is_the_same_for_the_same_seed() -> None:
    """Two servers of one seed and one time have the same data, another seed has other data."""
    one, two = FakeHarness.seeded(clock=still), FakeHarness.seeded(clock=still)
    assert one.all_executions() == two.all_executions()
    assert one.organizations == two.organizations
    assert one.all_executions() != FakeHarness.seeded(seed=2, clock=still).all_executions()


@pytest.mark.parametrize(("projects", "executions"), [(1, 0), (20, 500), (300, 1000)])
def test_seeded_numbers(projects: int, executions: int) -> None:
    """There are as many projects and executions as asked for, and an organization per eight projects."""
    fake = FakeHarness.seeded(projects, executions, clock=still)
    assert len(fake.projects) == len(set(fake.projects)) == projects
    assert len(fake.all_executions()) == executions
    assert len(fake.organizations) == -(-projects // 8)
    assert next(iter(fake.organizations)) == "default"


def test_executions_need_a_project() -> None:
    """Executions cannot be seeded without a project to hold them."""
    assert FakeHarness.seeded(0, 0).projects == []
    with pytest.raises(ValueError, match="project"):
        FakeHarness.seeded(0, 1)


def test_seeded_data_looks_lived_in() -> None:
    """Executions are uneven over projects, dense lately, mostly successful, with ids that begin oddly."""
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


async def test_a_list_under_churn(fake: FakeHarness, get: Any, now: int) -> None:
    """Churn adds, removes and changes rows with each request and keeps what it did; the seed decides."""
    fake.add_executions("default", "payments", 200)
    churn = Churn(fake, "default", "payments", seed=3, arrivals=1.0, departures=1.0, late=1.0, status_changes=1.0)
    fake.before_request = churn
    for page in range(1, 31):
        await get(LIST, params={"page": page, "limit": 10})
    assert len(fake.all_executions()) == 200 + len(churn.arrived) - len(churn.departed)
    assert 20 < len(churn.departed) < 45
    assert 40 < len(churn.arrived) < 85
    created = [row["created"] for row in churn.arrived]
    assert max(created) == now
    assert now - 10_000 <= min(created) < now


def test_churn_of_an_empty_project() -> None:
    """Where there is no row, none departs and none changes."""
    fake = FakeHarness()
    fake.add_project("default", "payments")
    churn = Churn(fake, "default", "payments", arrivals=0.0, departures=5.0, status_changes=5.0)
    churn(None)  # type: ignore[arg-type]
    assert churn.departed == []


@pytest.mark.parametrize("order", ["newest", "oldest", "hash"])
def test_a_table_stays_sorted(order: Any) -> None:
    """Whatever comes and goes, a table is sorted as if sorted anew."""
    rng, table = random.Random(5), Table()
    kept: dict[tuple[str, str], Row] = {}
    for number in range(400):
        if kept and rng.random() < 0.3:
            key = rng.choice(list(kept))
            assert table.drop(key) is kept.pop(key)
        wire = {"created": rng.randrange(50), "pipeline_execution_id": str(number), "pipeline_stage_id": "s"}
        row = Row(wire, "", number)
        table.put(row)
        kept[row.key] = row
        assert table.slice(order, rng, 0, 9) == sorted(kept.values(), key=lambda row: row.place(order))[:9]
    assert len(table) == len(kept)
    assert set(map(id, table)) == set(map(id, kept.values()))
    assert table.drop(("no", "such")) is None


def test_removing_projects() -> None:
    """A removed project takes its executions along and leaves the others."""
    fake = FakeHarness()
    fake.add_execution("default", "payments")
    row = fake.add_execution("default", "network")
    fake.remove_project("default", "payments")
    assert fake.projects == [("default", "network")]
    assert fake.all_executions() == [row]
    assert fake.clock is time.time

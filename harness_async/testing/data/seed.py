"""Realistic organizations, projects and IaCM executions. The same seed has the same data, except that it ends now."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import TYPE_CHECKING

from harness_async.testing.data.seed_rows import Profile, seed_rows

if TYPE_CHECKING:
    from harness_async.testing.data.account import Account

_DAYS = 90
_DAY = 86_400_000  # milliseconds
_PROJECTS_PER_ORGANIZATION = 8

_ORGANIZATIONS = (
    ("default", "Default"),
    ("retail", "Retail"),
    ("infrastructure", "Infrastructure"),
    ("data_platform", "Data Platform"),
    ("mobile", "Mobile"),
    ("security", "Security"),
    ("corporate_it", "Corporate IT"),
    ("research", "Research"),
)
_PROJECTS = (
    *("payments", "checkout", "network", "platform", "identity", "search", "catalog", "billing"),
    *("warehouse", "streaming", "observability", "dns", "kubernetes", "ledger", "fraud", "shipping"),
    *("messaging", "storage", "backup", "edge", "analytics", "pricing", "inventory", "notifications"),
)
_PARTS = ("network", "database", "cluster", "queue", "cache", "dns", "storage", "iam")
_STAGES = ("prod", "staging", "dev")
_VERBS = ("provision", "apply", "plan", "destroy", "check_drift")
_COLORS = ("#0063F7", "#FF832B", "#4DC952", "#6938C0", "#EE2A89")
_MODULES = ("CD", "CI", "CF", "CE", "STO", "IACM")
_WITH_IACM = 0.8  # share of the projects that have the module
_TEAMS = ("platform", "core", "sre", "delivery")


def seed_account(account: Account, *, projects: int, executions: int, seed: int) -> None:
    """Add organizations, projects and executions in the given numbers, and the other rows that match them."""
    rng, now = random.Random(seed), account.now()
    account.rng.seed(seed)
    scopes = _add_projects(account, rng, projects, oldest=now - _DAYS * _DAY)
    if not scopes and executions:
        raise ValueError("executions need at least one project")
    profiles = {scope: _profile(rng) for scope in scopes}
    times = sorted(_created(rng, now) for _ in range(executions))
    weights = list(accumulate(_weights(rng, len(scopes))))
    for created in times:
        org, project = rng.choices(scopes, cum_weights=weights)[0]
        workspace = rng.choice(profiles[org, project].workspaces)
        pipeline, name = rng.choice(profiles[org, project].pipelines)
        account.add_execution(
            org,
            project,
            created=created,
            status=_status(rng, now - created),
            workspace=workspace,
            pipeline=pipeline,
            pipeline_name=name,
        )
    seed_rows(account, profiles, seed=seed)


def _add_projects(account: Account, rng: random.Random, count: int, *, oldest: int) -> list[tuple[str, str]]:
    """Add organizations and projects. Each organization starts at another project name."""
    organizations = max(1, -(-count // _PROJECTS_PER_ORGANIZATION))
    identifiers = []
    for index in range(organizations):
        identifier, name = _ORGANIZATIONS[index % len(_ORGANIZATIONS)]
        if index >= len(_ORGANIZATIONS):
            suffix = index // len(_ORGANIZATIONS) + 1
            identifier, name = f"{identifier}_{suffix}", f"{name} {suffix}"
        tags = {"team": rng.choice(_TEAMS)} if index else {}
        account.add_organization(identifier, name, description=f"{name} organization", tags=tags, created=oldest)
        identifiers.append(identifier)
    scopes = []
    for index in range(count):
        org, number = identifiers[index % organizations], index // organizations
        identifier = _PROJECTS[(number + 3 * (index % organizations)) % len(_PROJECTS)]
        if number >= len(_PROJECTS):
            identifier = f"{identifier}_{number // len(_PROJECTS) + 1}"
        modules = {*rng.sample(_MODULES, 2), "IACM"} if rng.random() < _WITH_IACM else {"CD"}
        account.add_project(
            org,
            identifier,
            color=rng.choice(_COLORS),
            modules=sorted(modules),
            description=f"Infrastructure of {identifier.replace('_', ' ')}",
            tags={"team": rng.choice(_TEAMS), "tier": str(rng.randint(1, 3))},
            created=oldest + index,
        )
        scopes.append((org, identifier))
    return scopes


def _profile(rng: random.Random) -> Profile:
    parts = rng.sample(_PARTS, rng.randint(2, 4))
    verbs = rng.sample(_VERBS, 2)
    pipelines = [
        (f"{verb}_{part}", f"{verb} {part}".replace("_", " ").capitalize()) for verb in verbs for part in parts
    ]
    return Profile([f"{part}_{stage}" for part in parts for stage in _STAGES], pipelines)


def _weights(rng: random.Random, count: int) -> list[float]:
    """Return the activity of each project: a power law over a random ranking, the last fifth without executions."""
    idle = count // 5
    weights = [1 / rank**1.3 for rank in range(1, count - idle + 1)] + [0.0] * idle
    rng.shuffle(weights)
    return weights


def _created(rng: random.Random, now: int) -> int:
    """Return a time within the last 90 days. Recent ones are more likely."""
    return now - int(_DAYS * _DAY * rng.random() ** 2)


def _status(rng: random.Random, age: int) -> str:
    """Return a status. Of a hundred, 12 fail and 8 have no outcome yet, mostly the newest."""
    # The age is 90 days times a squared uniform number: one in ten rows is younger than a hundredth of that.
    without = 0.53 if age < _DAYS * _DAY / 100 else 0.03
    draw = rng.random()
    if draw < without:
        return "none"
    return "failure" if draw < without + 0.12 * (1 - without) / 0.92 else "success"

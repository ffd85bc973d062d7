"""An account that looks lived in: the same for the same seed, except that its last 90 days end now."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from harness_async.testing.account import Account

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


@attrs.frozen
class _Habits:
    """What the executions of one project have in common."""

    workspaces: list[str]
    pipelines: list[tuple[str, str]]
    """Identifier and name of each pipeline."""


def seed_account(account: Account, *, projects: int, executions: int, seed: int) -> None:
    """Fill an account with organizations, projects and executions in those numbers."""
    rng, now = random.Random(seed), account.now()
    account.rng.seed(seed)
    scopes = _add_projects(account, rng, projects, oldest=now - _DAYS * _DAY)
    if not scopes and executions:
        raise ValueError("executions need at least one project")
    habits = {scope: _habits(rng) for scope in scopes}
    times = sorted(_created(rng, now) for _ in range(executions))
    weights = list(accumulate(_weights(rng, len(scopes))))
    for created in times:
        org, project = rng.choices(scopes, cum_weights=weights)[0]
        workspace = rng.choice(habits[org, project].workspaces)
        pipeline, name = rng.choice(habits[org, project].pipelines)
        account.add_execution(
            org,
            project,
            created=created,
            status=_status(rng, now - created),
            workspace=workspace,
            pipeline=pipeline,
            pipeline_name=name,
        )


def _add_projects(account: Account, rng: random.Random, count: int, *, oldest: int) -> list[tuple[str, str]]:
    """Add organizations and projects; each organization starts anew in the list of project names."""
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


def _habits(rng: random.Random) -> _Habits:
    parts = rng.sample(_PARTS, rng.randint(2, 4))
    verbs = rng.sample(_VERBS, 2)
    pipelines = [
        (f"{verb}_{part}", f"{verb} {part}".replace("_", " ").capitalize()) for verb in verbs for part in parts
    ]
    return _Habits([f"{part}_{stage}" for part in parts for stage in _STAGES], pipelines)


def _weights(rng: random.Random, count: int) -> list[float]:
    """Draw how busy each project is: a power law over a random ranking, the last fifth idle."""
    idle = count // 5
    weights = [1 / rank**1.3 for rank in range(1, count - idle + 1)] + [0.0] * idle
    rng.shuffle(weights)
    return weights


def _created(rng: random.Random, now: int) -> int:
    """Draw a time of the last 90 days, the recent ones more likely."""
    return now - int(_DAYS * _DAY * rng.random() ** 2)


def _status(rng: random.Random, age: int) -> str:
    """Draw a status: of a hundred 12 fail and 8 have no outcome yet, mostly the newest."""
    # Age is 90 days times a squared uniform: one in ten rows is younger than a hundredth of that.
    without = 0.53 if age < _DAYS * _DAY / 100 else 0.03
    draw = rng.random()
    if draw < without:
        return "none"
    return "failure" if draw < without + 0.12 * (1 - without) / 0.92 else "success"

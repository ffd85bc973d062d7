"""What the server knows: an account's organizations, projects and executions, and how their lists behave."""

from __future__ import annotations

import base64
import copy
import random
import re
import threading
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from harness_async.testing.table import Key, Order, Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness_async.testing.recorded import RecordedRequest
    from harness_async.testing.responses import Json

Totals = Literal["iacm", "v1", "both", "none"]
EndTime = Literal["inclusive", "exclusive", "ignored"]
PastEnd = Literal["empty", 404, 400]

ACCOUNT_ID = "Ab1Cd2Ef3Gh4Ij5Kl6Mn7O"


class Options(TypedDict, total=False):
    """What may be passed by name when an `Account` is made; `FakeHarness` says what each means."""

    api_key: str | None
    account_id: str
    order: Order
    totals: Totals
    end_time: EndTime
    max_page_size: int | None
    past_end: PastEnd
    clock: Callable[[], float]


class ServerOptions(Options, total=False):
    """The same for a `FakeHarness`."""

    host: str
    port: int
    prefix: str


class Account:
    """The data behind a `FakeHarness`, without the network.

    Every method takes a lock, so all of them may be called from any thread while the server answers from its
    own. Rows and objects are handed out as copies: changing one changes nothing on the server.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        account_id: str = ACCOUNT_ID,
        order: Order = "newest",
        totals: Totals = "iacm",
        end_time: EndTime = "inclusive",
        max_page_size: int | None = None,
        past_end: PastEnd = "empty",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.account_id = account_id
        self.api_key: str = f"pat.{account_id}.fake0token.fake0secret" if api_key is None else api_key
        self.order: Order = order
        self.totals: Totals = totals
        self.end_time: EndTime = end_time
        self.max_page_size = max_page_size
        self.past_end: PastEnd = past_end
        self.clock = clock
        self.before_request: Callable[[RecordedRequest], None] | None = None
        self.between_count_and_rows: Callable[[RecordedRequest], None] | None = None
        self.lock: AbstractContextManager[Any] = threading.RLock()
        self.rng: random.Random = random.Random(0)
        self.organizations: dict[str, Json] = {}
        self.tables: dict[tuple[str, str], Table] = {}
        self.project_objects: dict[tuple[str, str], Json] = {}
        self.denied: dict[tuple[str, str | None], int] = {}
        self._numbers = 0

    # Organizations and projects

    @property
    def projects(self) -> list[tuple[str, str]]:
        """Every project as a pair of organization and project identifier, in the order they were added."""
        with self.lock:
            return list(self.project_objects)

    def add_organization(self, identifier: str, name: str | None = None, **fields: Any) -> Json:
        """Add an organization, or replace the one of that identifier.

        *fields* go into the object (`description`, `tags`) or beside it (`created`, `updated`,
        `harness_managed`).
        """
        with self.lock:
            beside = self._beside(fields, harness_managed=identifier == "default")
            org = {"identifier": identifier, "name": name or title(identifier), **fields}
            self.organizations[identifier] = copy.deepcopy({"org": org, **beside})
            return copy.deepcopy(self.organizations[identifier])

    def add_project(self, org: str, project: str, name: str | None = None, **fields: Any) -> Json:
        """Add a project without executions, and its organization when that is missing.

        A project that exists keeps its executions and gets the new fields. *fields* go into the object
        (`color`, `modules`, `description`, `tags`) or beside it (`created`, `updated`, `isFavorite`).
        """
        with self.lock:
            if org not in self.organizations:
                self.add_organization(org)
            beside = self._beside(fields, isFavorite=False)
            inner = {
                "org": org,
                "identifier": project,
                "name": name or title(project),
                "modules": [],
                **fields,
            }
            self.project_objects[org, project] = copy.deepcopy({"project": inner, **beside})
            self.tables.setdefault((org, project), Table())
            return copy.deepcopy(self.project_objects[org, project])

    def remove_project(self, org: str, project: str) -> None:
        """Remove a project and its executions; KeyError if it is not there."""
        with self.lock:
            del self.project_objects[org, project]
            del self.tables[org, project]

    def remove_organization(self, identifier: str) -> None:
        """Remove an organization, its projects and their executions; KeyError if it is not there."""
        with self.lock:
            del self.organizations[identifier]
            for org, project in self.projects:
                if org == identifier:
                    self.remove_project(org, project)

    def deny(self, org: str, project: str | None = None, *, status: int = 403) -> None:
        """Return *status* for the IaCM calls of a project.

        Without *project* to those of the whole organization, and to the v1 list of its projects.
        """
        with self.lock:
            self.denied[org, project] = status

    def allow(self, org: str, project: str | None = None) -> None:
        """Undo `deny` for the same arguments."""
        with self.lock:
            self.denied.pop((org, project), None)

    # Executions

    def add_execution(
        self,
        org: str,
        project: str,
        *,
        created: int | None = None,
        status: str = "success",
        workspace: str = "network_prod",
        pipeline: str = "provision_network",
        pipeline_execution_id: str | None = None,
        pipeline_stage_id: str | None = None,
        pipeline_name: str | None = None,
    ) -> Json:
        """Add an execution and return it as the API would; adds the project when it is missing.

        `created` is in milliseconds and now by default, missing ids are drawn, and `pipeline_name` (what the
        filter of that name compares) is the pipeline's identifier unless given. ValueError if the ids are
        taken.
        """
        with self.lock:
            if (org, project) not in self.tables:
                self.add_project(org, project)
            wire = {
                "account": self.account_id,
                "created": self.now() if created is None else created,
                "org": org,
                "pipeline": pipeline,
                "pipeline_execution_id": pipeline_execution_id or self.draw_id(),
                "pipeline_stage_id": pipeline_stage_id or self.draw_id(),
                "project": project,
                "status": status,
                "workspace": workspace,
            }
            self._numbers += 1
            row = Row(wire, pipeline if pipeline_name is None else pipeline_name, self._numbers)
            if self.tables[org, project].get(row.key) is not None:
                raise ValueError(f"{org}/{project} has an execution {'/'.join(row.key)} already")
            self.tables[org, project].put(row)
            return dict(wire)

    def add_executions(self, org: str, project: str, n: int, **fields: Any) -> list[Json]:
        """Add *n* executions with the same fields, one millisecond apart and the last one newest."""
        with self.lock:
            newest = fields.pop("created", None)
            newest = self.now() if newest is None else newest
            return [self.add_execution(org, project, created=newest - n + 1 + index, **fields) for index in range(n)]

    def remove_execution(self, row: Mapping[str, Any]) -> None:
        """Remove the execution the row stands for; KeyError if it is not there."""
        with self.lock:
            if self.tables[row["org"], row["project"]].drop(_key(row)) is None:
                raise KeyError(_key(row))

    def set_status(self, row: Mapping[str, Any], status: str) -> Json:
        """Change the status of the execution the row stands for and return it; KeyError if there is none."""
        with self.lock:
            table = self.tables[row["org"], row["project"]]
            found = table.get(_key(row))
            if found is None:
                raise KeyError(_key(row))
            table.put(Row({**found.wire, "status": status}, found.pipeline_name, found.number))
            return {**found.wire, "status": status}

    def executions(self, org: str, project: str) -> list[Json]:
        """List the executions of a project in the order in force; KeyError if the project is not there."""
        with self.lock:
            return [dict(row.wire) for row in self.tables[org, project].rows(self.order, self.rng)]

    def all_executions(self) -> list[Json]:
        """List the executions of every project, project by project."""
        with self.lock:
            return [row for org, project in self.projects for row in self.executions(org, project)]

    # What the rest of the package shares

    def now(self) -> int:
        """Say what time it is on `clock`, in milliseconds."""
        return int(self.clock() * 1000)

    def draw_id(self) -> str:
        """Draw an id of 22 URL-safe base64 characters.

        One in eight begins with `-` or `_`: real ones do at times, and command lines trip over it.
        """
        text = base64.urlsafe_b64encode(self.rng.randbytes(16)).decode().rstrip("=")
        draw = self.rng.random()
        return text if draw > 1 / 8 else ("-" if draw > 1 / 16 else "_") + text[1:]

    def _beside(self, fields: dict[str, Any], **defaults: object) -> Json:
        """Take what stands beside an object in its envelope out of the fields."""
        now = self.now()
        beside = {"created": now, "updated": fields.get("created", now), **defaults}
        return {name: fields.pop(name, value) for name, value in beside.items()}


def title(identifier: str) -> str:
    """Make a name of an identifier, within what the API allows in names."""
    return re.sub(r"[^0-9A-Za-z_ -]", " ", identifier.replace("_", " ")).strip().capitalize() or identifier


def _key(row: Mapping[str, Any]) -> Key:
    return row["pipeline_execution_id"], row["pipeline_stage_id"]

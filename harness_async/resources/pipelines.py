"""Pipelines of a project (v1 API; apidocs.harness.io, "Pipelines")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from attrs import field, frozen

from harness_async.bulk.factory import BulkFactory, BulkOptions
from harness_async.bulk.run import BulkRun
from harness_async.http.endpoints import Endpoint
from harness_async.http.session import Session
from harness_async.pagination.dialects import DIALECTS
from harness_async.pagination.pager import ListEndpoint, Pager
from harness_async.serialization.converters import register_model
from harness_async.serialization.model import Updated, parse_tags
from harness_async.types import Projects
from harness_async.validation import check_order

_PIPELINES = "/v1/orgs/{org}/projects/{project}/pipelines"
_GET = Endpoint("GET", f"{_PIPELINES}/{{pipeline}}")


@frozen(kw_only=True)
class Pipeline(Updated):
    """A pipeline. Missing members are empty.

    Attributes:
        org: Identifier of the organization.
        project: Identifier of the project.
        identifier: Its identifier.
        name: Its display name.
        description: Its description.
        tags: Its tags; a tag without a value has the value "".
        created: Time of creation: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        updated: Time of the last change: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        modules: The modules in use, such as `CD`.
        store_type: `INLINE`, or `REMOTE` for a pipeline in git.
        repository: The Git repository of its YAML.
        branch: The branch of its YAML.
        file_path: The path of its YAML in the repository.
        valid: Whether its YAML was valid when it was saved.
        recent_executions: The last executions, as sent: `execution_id`, `execution_status`, `started` and others.
        yaml: The definition; only from `get`.
    """

    org: str
    project: str
    identifier: str
    name: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    created: int = 0
    updated: int = 0
    modules: tuple[str, ...] = ()
    store_type: str = ""
    repository: str = ""
    branch: str = ""
    file_path: str = ""
    valid: bool = True
    recent_executions: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    yaml: str = ""


register_model(
    Pipeline,
    {
        "repository": "git_details.repo_name",
        "branch": "git_details.branch_name",
        "file_path": "git_details.file_path",
        "recent_executions": "recent_execution_info",
        "yaml": "pipeline_yaml",
    },
    {"tags": parse_tags},
)

_LIST = ListEndpoint(path=_PIPELINES, cls=Pipeline, ids=("identifier",), dialect=DIALECTS["v1"])


class PipelinesAPI:
    """The pipelines of the account's projects. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session, runs: BulkFactory) -> None:
        self._session = session
        self._runs = runs

    def list(
        self,
        org: str,
        project: str,
        *,
        search_term: str | None = None,
        module: str | None = None,
        sort: str | None = None,
        order: str | None = None,
        limit: int = 100,
        prefetch: int = 0,
    ) -> Pager[Pipeline]:
        """List the pipelines of one project that the key may view, the last changed first.

        Args:
            org: Identifier of the organization.
            project: Identifier of the project.
            search_term: A regular expression that name or identifier matches.
            module: A module, such as `cd`.
            sort: A field: `name` or `updated`.
            order: `ASC` or `DESC`, in any case.
            limit: Page size, 1 to 100.
            prefetch: Pages to request ahead of the consumer, which are held in memory.
        """
        params = {"search_term": search_term, "module": module, "sort": sort, "order": check_order(order)}
        return _LIST.open(self._session, params=params, limit=limit, prefetch=prefetch, org=org, project=project)

    def bulk(
        self,
        projects: Projects | None = None,
        *,
        search_term: str | None = None,
        module: str | None = None,
        **options: Unpack[BulkOptions],
    ) -> BulkRun[Pipeline]:
        """Fetch the pipelines of many projects concurrently, by name; see `executions.bulk`."""
        return self._runs.bulk(
            # By name, because a change moves no row then.
            lambda ref, _end: self.list(
                ref.org, ref.project, search_term=search_term, module=module, sort="name", order="ASC"
            ),
            projects,
            filters={"resource": "pipelines", "search_term": search_term, "module": module},
            **options,
        )

    async def get(self, org: str, project: str, pipeline: str) -> Pipeline:
        """Fetch one pipeline with its YAML. A pipeline in git is fetched from there, which may take long or fail.

        Raises:
            NotFoundError: The project has no pipeline with this identifier.
        """
        context = {"org": org, "project": project}
        return await self._session.fetch(_GET, Pipeline, context=context, org=org, project=project, pipeline=pipeline)

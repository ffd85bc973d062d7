"""Audit events of the account (apidocs.harness.io, "Audit")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from attrs import frozen

from harness_async.http.endpoints import QueryValue
from harness_async.http.session import Session
from harness_async.pagination.dialects import DIALECTS
from harness_async.pagination.pager import ListEndpoint, Pager, parse_window, scope_params
from harness_async.serialization.converters import register_model
from harness_async.serialization.model import Model
from harness_async.types import Consistency, Time, TimeWindow
from harness_async.validation import as_str_tuple, check_identifier, from_milliseconds


@frozen(kw_only=True)
class AuditEvent(Model):
    """An event of the audit trail. Missing members are empty.

    Attributes:
        insert_id: The identity; `audit_id` may be missing.
        audit_id: Identifier of the details of the event.
        timestamp: Milliseconds since 1970 UTC, as sent.
        action: `CREATE`, `UPDATE`, `DELETE`, `LOGIN` and others.
        module: The module, such as `CORE`.
        org: Identifier of the organization, "" for the account.
        project: Identifier of the project, "" for an organization or the account.
        resource_type: Type of the resource, such as `PIPELINE`.
        resource: Identifier of the resource.
        principal_type: `USER`, `API_KEY`, `SERVICE_ACCOUNT` or `SYSTEM`.
        principal: Identifier of the one who acted.
        environment: Identifier of the environment.
        request_method: The HTTP method of the request.
        client_ip: The IP address that the request came from.
    """

    insert_id: str
    audit_id: str = ""
    timestamp: int = 0
    action: str = ""
    module: str = ""
    org: str = ""
    project: str = ""
    resource_type: str = ""
    resource: str = ""
    principal_type: str = ""
    principal: str = ""
    environment: str = ""
    request_method: str = ""
    client_ip: str = ""

    @property
    def occurred_at(self) -> datetime | None:
        """Time of the event in UTC; None where it is missing or fits no calendar."""
        return from_milliseconds(self.timestamp)


register_model(
    AuditEvent,
    {
        "insert_id": "insertId",
        "audit_id": "auditId",
        "org": "resourceScope.orgIdentifier",
        "project": "resourceScope.projectIdentifier",
        "resource_type": "resource.type",
        "resource": "resource.identifier",
        "principal_type": "authenticationInfo.principal.type",
        "principal": "authenticationInfo.principal.identifier",
        "environment": "environment.identifier",
        "request_method": "httpRequestInfo.requestMethod",
        "client_ip": "requestMetadata.clientIP",
    },
)


def _apply_window(window: TimeWindow) -> tuple[Mapping[str, QueryValue], Mapping[str, object]]:
    bounds = {"startTime": window.start, "endTime": window.end}
    return {}, {name: value for name, value in bounds.items() if value is not None}


_LIST = ListEndpoint(
    path="/audit/api/audits/list",
    cls=AuditEvent,
    ids=("insert_id",),
    dialect=DIALECTS["ng"],
    method="POST",
    created="timestamp",
    apply_window=_apply_window,
)


class AuditsAPI:
    """The audit trail of the account. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list(
        self,
        *,
        org: str | None = None,
        project: str | None = None,
        include_children: bool = True,
        start_time: Time | None = None,
        end_time: Time | None = None,
        actions: str | Iterable[str] | None = None,
        limit: int = 100,
        prefetch: int = 0,
        consistency: Consistency = "live",
    ) -> Pager[AuditEvent]:
        """List audit events, the newest first: one list covers the account.

        Args:
            org: Keep events of this organization.
            project: With `org`: keep events of this project.
            include_children: Include the events of the organizations and projects within the scope.
            start_time: Keep events at or after this time: an aware datetime, or milliseconds since 1970 UTC. An open
                range is slow for the server.
            end_time: Keep events at or before this time.
            actions: Keep events with this action, or one of these.
            limit: Page size, 1 to 100.
            prefetch: Pages to request ahead of the consumer, which are held in memory.
            consistency: As in `executions.list`.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used; nothing was sent.
        """
        if project is not None and org is None:
            raise ValueError("project needs org: a project belongs to an organization")
        given = {"org": org, "project": project}
        scope = {name: check_identifier(name, value) for name, value in given.items() if value is not None}
        window, words = parse_window(start_time, end_time), as_str_tuple("actions", actions)
        body: dict[str, object] = {
            "filterType": "Audit",
            "scopes": [scope_params(self._session, scope)],
            "includeChildScopes": include_children,
            **_apply_window(window)[1],
        }
        return _LIST.open(
            self._session,
            params={},
            json=body if words is None else {**body, "actions": words},
            limit=limit,
            prefetch=prefetch,
            consistency=consistency,
            window=window,
        )

"""One request to the API, with what all operations need: errors, the body, and access to projects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from harness_async.testing.responses import (
    JSON,
    FakeResponse,
    HTTPError,
    correlation_id,
    encode_json,
    failure_error,
    goa_error,
    legacy_error,
    v1_error,
)

if TYPE_CHECKING:
    from harness_async.testing.data.account import Account
    from harness_async.testing.recorded import RecordedRequest

Family = Literal["iacm", "v1", "ng", "pipeline", "audit", "none"]
"""The service that handles a path. It decides the envelope of errors."""

_PREFIXES: dict[str, Family] = {
    "/iacm/": "iacm",
    "/v1/": "v1",
    "/ng/api/": "ng",
    "/pipeline/api/": "pipeline",
    "/audit/api/": "audit",
}


def family_of(path: str) -> Family:
    """Return the service that handles a path."""
    for prefix, family in _PREFIXES.items():
        if path.startswith(prefix):
            return family
    return "none"


@attrs.frozen
class PageOptions:
    """What faults change about the pages of lists."""

    clip: int | None = None
    """The maximum number of rows in a page, None for no limit."""
    ignore_page: bool = False
    """Whether every request gets the first page."""
    shuffle: bool = False
    """Whether the rows of a page come in random order."""


@attrs.frozen
class Call:
    """An authenticated request."""

    account: Account
    request: RecordedRequest
    family: Family
    options: PageOptions = PageOptions()

    def error(self, status: int, message: str, *, field: str | None = None, code: str | None = None) -> HTTPError:
        """Build an error in the envelope of the service. *field* names the invalid parameter or member."""
        fields = {} if field is None else {field: message}
        match self.family:
            case "iacm":
                return HTTPError(goa_error(status, message))
            case "v1":
                return HTTPError(v1_error(status, message, fields, code=code))
            case _ if fields:
                return HTTPError(failure_error(status, f"Invalid request: {message}", fields, code=code))
            case _:
                return HTTPError(legacy_error(status, message, code=code))

    def not_found(self, message: str) -> HTTPError:
        """Build the error for a missing entity. The status depends on service and version of Harness."""
        if self.account.not_found != 404 and self.family in {"v1", "ng"}:  # noqa: PLR2004 - a status
            # https://github.com/harness/harness-core: NotFoundExceptionMapper
            return HTTPError(legacy_error(400, message, code="RESOURCE_NOT_FOUND_EXCEPTION"))
        return self.error(404, message, code="ENTITY_NOT_FOUND")

    def project(self, org: str, project: str) -> tuple[str, str]:
        """Return the identifiers of a project as stored. Raises an error if it is denied or missing."""
        org, project = self.account.spelling(org, project)
        status = self.account.denied.get((org, project)) or self.account.denied.get((org, None))
        if status is not None:
            raise self.denied(status)
        if self.account.table("projects").get((org, project)) is None:
            raise self.not_found(f"project {org}/{project} not found")
        return org, project

    def organization(self, org: str) -> str:
        """Return the identifier of an organization as stored. Raises an error if it is denied or missing."""
        (org,) = self.account.spelling(org)
        status = self.account.denied.get((org, None))
        if status is not None:
            raise self.denied(status)
        if self.account.table("organizations").get((org,)) is None:
            raise self.not_found(f"Organization with identifier {org} not found")
        return org

    def denied(self, status: int) -> HTTPError:
        """Build the error for missing access. v1 leaves it to the framework of the NextGen services."""
        if self.family == "iacm":
            return self.error(status, "missing permission")
        code = "ENTITY_NOT_FOUND" if status == 404 else None  # noqa: PLR2004 - a status
        return HTTPError(legacy_error(status, "Missing permission", code=code))

    def json(self, *, optional: bool = False) -> object:
        """Decode the body, which has to be JSON by its content type too. None if it is *optional* and empty."""
        if optional and not self.request.body:
            return None
        content_type = self.request.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if content_type != JSON:
            message = f"content type {content_type or 'none'} is not supported"
            # v1 leaves this error to the framework of the NextGen services.
            raise HTTPError((goa_error if self.family == "iacm" else legacy_error)(415, message))
        try:
            body: object = self.request.json
        except ValueError:
            raise self.error(400, "body is not valid JSON") from None
        return body


def ok(value: object, status: int = 200) -> FakeResponse:
    """Build a response with a JSON body."""
    return FakeResponse(status, encode_json(value))


def enveloped(value: object) -> object:
    """Wrap the result of a NextGen service in its envelope."""
    return {
        "status": "SUCCESS",
        "data": value,
        "metaData": None,
        "correlationId": correlation_id("success"),
    }

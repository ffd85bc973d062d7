from __future__ import annotations

import ast
import importlib.metadata
import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import attrs
import pytest

import harness_async
from harness_async import HarnessClient, HarnessError, RateLimit, RetryPolicy, Timeouts
from harness_async.config import RETRY_STATUSES
from harness_async.resources.executions import ExecutionsAPI
from harness_async.resources.organizations import OrganizationsAPI
from harness_async.resources.projects import ProjectsAPI

DOCUMENTED = {
    "client": "HarnessClient Timeouts RetryPolicy RateLimit Pacer Event Stats Response",
    "lists": "Pager Page Walk WalkReport",
    "rows": "Organization Project Execution ExecutionStatus",
    "bulk": "ProjectRef BulkRun BulkReport ProjectOutcome Progress",
    "errors": (
        "HarnessError ConfigurationError TransportError RequestTimeoutError DeadlineExceededError "
        "UnexpectedResponseError DecodeError PaginationError CheckpointError BulkError APIStatusError BadRequestError "
        "AuthenticationError PermissionDeniedError NotFoundError ConflictError PreconditionFailedError "
        "UnsupportedMediaTypeError UnprocessableEntityError LockedError RateLimitError ServerError Attempt"
    ),
}
"""Every name of the documented interface."""

SIGNATURES: list[tuple[Callable[..., Any], str]] = [
    (
        HarnessClient,
        (
            "(api_key=None, account_id=None, *, base_url=None, timeouts=Timeouts(), retry=RetryPolicy(), "
            "rate_limit=RateLimit(), pacer=None, max_in_flight=32, http_session=None, on_event=None, allow_http=False)"
        ),
    ),
    (HarnessClient.close, "()"),
    (HarnessClient.with_options, "(*, timeouts=None, retry=None, on_event=None)"),
    (HarnessClient.request, "(method, path, *, params=None, json=None, headers=None, repeatable=None)"),
    (HarnessClient.paginate, "(path, *, params=None, first_page=1, limit=100, into=None, key=None)"),
    (Timeouts, "(*, connect=10.0, read=30.0, deadline=300.0)"),
    (
        RetryPolicy,
        "(*, initial_backoff=0.5, max_backoff=20.0, max_attempts=None, retry_statuses=..., max_retry_after=120.0)",
    ),
    (RateLimit, "(requests=400, per=60.0)"),
    (OrganizationsAPI.list, "(*, org=None, search_term=None, sort=None, order=None, limit=100)"),
    (OrganizationsAPI.get, "(org)"),
    (OrganizationsAPI.create, "(identifier, name, *, description=None, tags=None)"),
    (OrganizationsAPI.update, "(org, *, name, description=None, tags=None)"),
    (OrganizationsAPI.delete, "(org)"),
    (
        ProjectsAPI.list,
        "(org, *, project=None, has_module=None, module_type=None, search_term=None, sort=None, order=None, limit=100)",
    ),
    (ProjectsAPI.list_all, "(*, orgs=None)"),
    (ProjectsAPI.get, "(org, project)"),
    (ProjectsAPI.create, "(org, identifier, name, *, color=None, modules=None, description=None, tags=None)"),
    (ProjectsAPI.update, "(org, project, *, name, color=None, modules=None, description=None, tags=None)"),
    (ProjectsAPI.delete, "(org, project)"),
    (
        ExecutionsAPI.list,
        (
            "(org, project, *, workspace=None, pipeline_execution_id=None, status=None, pipeline_name=None, "
            "start_time=None, end_time=None, limit=100, prefetch=0, consistency='live')"
        ),
    ),
    (ExecutionsAPI.get, "(org, project, pipeline_execution_id, pipeline_stage_id)"),
    (
        ExecutionsAPI.create,
        "(org, project, *, pipeline, pipeline_execution_id, pipeline_stage_id, workspace)",
    ),
    (
        ExecutionsAPI.wait,
        "(org, project, pipeline_execution_id, pipeline_stage_id, *, timeout, poll_interval=5.0)",
    ),
    (harness_async.Pager.walk, "()"),
    (harness_async.Pager.pages, "()"),
    (harness_async.Pager.collect, "(max_items=None)"),
    (harness_async.Pager.first, "()"),
    (harness_async.Pager.count, "()"),
    (harness_async.BulkReport.raise_for_failures, "()"),
    (harness_async.Response.json, "()"),
    (harness_async.ProjectRef, "(org, project)"),
]
"""The documented signatures: names, kinds and defaults, without `self`."""

MEMBERS = {
    "HarnessClient": "organizations projects executions stats",
    "Stats": "requests retries throttled pages rows bytes_received queued paced network backoff decoding",
    "Response": "status headers body attempts",
    "Page": "items number size total_items total_pages",
    "WalkReport": "consistency requests pages rows duplicates window",
    "Execution": (
        "account org project pipeline pipeline_execution_id pipeline_stage_id workspace status created created_at key"
    ),
    "BulkRun": "report progress",
    "BulkReport": "outcomes rows requests duplicates failed elapsed",
    "ProjectOutcome": "project status consistency rows requests retries window error",
    "Progress": "projects_done projects_total rows requests elapsed eta limited_by",
    "ProjectRef": "org project",
    "Attempt": "started elapsed status error waited",
}
"""The documented fields and properties of each record."""


def show_signature(function: Callable[..., Any]) -> str:
    """Write a signature without `self` and annotations; settings by default as their bare call."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty, default=Shown.of(parameter.default))
        for name, parameter in signature.parameters.items()
        if name != "self"
    ]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


@attrs.frozen(repr=False)
class Shown:
    """A default as the documentation writes it."""

    text: str

    def __repr__(self) -> str:
        return self.text

    @classmethod
    def of(cls, value: object) -> object:
        """Replace what the documentation shortens."""
        if value is RETRY_STATUSES:
            return cls("...")
        settings = isinstance(value, Timeouts | RetryPolicy | RateLimit) and value == type(value)()
        return cls(f"{type(value).__name__}()") if settings else value


def public_classes() -> list[type[Any]]:
    values = [getattr(harness_async, name) for name in harness_async.__all__]
    return [value for value in values if inspect.isclass(value)] + [OrganizationsAPI, ProjectsAPI, ExecutionsAPI]


def test_exports_are_the_public_names() -> None:
    """`__all__` has every public name of the package, sorted and once, and no other."""
    tree = ast.parse(inspect.getsource(harness_async))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    public = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert all(getattr(harness_async, name).__name__ == name for name in public), "imported when asked for"
    assert dir(harness_async) == harness_async.__all__
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = harness_async.nothing_of_ours
    assert harness_async.__all__ == sorted(set(harness_async.__all__))
    assert set(harness_async.__all__) == public


@pytest.mark.parametrize("area", DOCUMENTED)
def test_documented_names_are_exported(area: str) -> None:
    """Every name of the documented interface can be imported from the package."""
    assert set(DOCUMENTED[area].split()) <= set(harness_async.__all__)


def test_the_name_of_a_sync_run_is_exported() -> None:
    """`SyncRun` can be imported from the package."""
    assert "SyncRun" in harness_async.__all__


def test_import_star_gives_the_exports() -> None:
    """A star import gives what `__all__` says."""
    space: dict[str, object] = {}
    exec("from harness_async import *", space)  # noqa: S102 - a star import is allowed at the top of a module only
    assert space.keys() - {"__builtins__"} == set(harness_async.__all__)


def test_loading_the_pytest_plugin_imports_no_client() -> None:
    """A project that has the library installed and does not use the fixture pays nothing for it."""
    code = "import sys, harness_async.testing.plugin; print('aiohttp' in sys.modules, 'cattrs' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.stdout.strip(), done.stderr) == ("False False", "")


def test_importing_the_package_is_cheap() -> None:
    """In a fresh interpreter the package brings neither the extras nor its testing half."""
    names = ("typer", "rich", "pytest", "_pytest", "hypothesis", "harness_async.testing", "harness_async.cli", "uvloop")
    code = f"import sys, harness_async; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("[]", "", 0)


@pytest.mark.parametrize("cls", public_classes(), ids=lambda cls: cls.__name__)
def test_public_classes_are_documented(cls: type[Any]) -> None:
    """Every public class has a docstring of its own, and so has each public method and property."""
    parts: dict[str, object] = {cls.__name__: cls}
    for name, value in vars(cls).items():
        member = value.fget if isinstance(value, property) else inspect.unwrap(getattr(value, "__func__", value))
        if inspect.isfunction(member) and not name.startswith("_"):
            parts[name] = member
    bare = [
        name for name, value in parts.items() if not (vars(value).get("__doc__") if value is cls else value.__doc__)
    ]
    assert bare == []
    assert not str(cls.__doc__).startswith("Method generated by attrs")


def test_public_functions_are_documented() -> None:
    """Whatever else is exported has a docstring too."""
    for name in harness_async.__all__:
        value = getattr(harness_async, name)
        assert inspect.isclass(value) or value.__doc__


def test_every_error_is_under_the_root() -> None:
    """Every exported exception is caught by `except HarnessError`, and is named as an error."""
    raised = [cls for cls in public_classes() if issubclass(cls, BaseException)]
    assert len(raised) == 23
    assert all(issubclass(cls, HarnessError) and cls.__name__.endswith("Error") for cls in raised)


@pytest.mark.parametrize(
    ("function", "expected"),
    [pytest.param(function, text, id=function.__qualname__) for function, text in SIGNATURES],
)
def test_signatures(function: Callable[..., Any], expected: str) -> None:
    """Parameters have the documented names, kinds and defaults, in that order."""
    assert show_signature(function) == expected


FILTERS = "workspace=None, pipeline_execution_id=None, status=None, pipeline_name=None, start_time=None, end_time=None"


def test_signature_of_bulk() -> None:
    """A bulk run is checked unless asked otherwise, and takes a checkpoint."""
    assert show_signature(ExecutionsAPI.bulk) == (
        f"(projects=None, *, {FILTERS}, concurrency=32, consistency='checked', on_error='collect', checkpoint=None, "
        "on_progress=None, max_requests=None)"
    )


def test_parameters_of_bulk() -> None:
    """A bulk run takes the filters of a list, by the same names."""
    shown = show_signature(ExecutionsAPI.bulk)
    assert shown.startswith(f"(projects=None, *, {FILTERS}, concurrency=32, consistency=")
    assert "on_error='collect'" in shown
    assert "on_progress=None" in shown


def test_signature_of_sync() -> None:
    """A sync takes the state of the last one and projects, both left out if need be."""
    assert show_signature(ExecutionsAPI.sync).startswith("(state=None, projects=None, *, ")


@pytest.mark.parametrize("name", MEMBERS)
def test_members(name: str) -> None:
    """Each record has its documented fields and properties."""
    cls = getattr(harness_async, name)
    have = set(dir(HarnessClient("pat.account.id.secret") if cls is HarnessClient else cls))
    assert set(MEMBERS[name].split()) <= have


def test_members_of_a_status() -> None:
    """The documented words of a status are the members of its enum, each with `is_known`."""
    assert harness_async.ExecutionStatus.__members__.keys() == {"NONE", "SUCCESS", "FAILURE"}
    assert harness_async.ExecutionStatus.NONE.is_known


def test_version() -> None:
    """The version is that of the distribution, where one is installed."""
    from harness_async._version import __version__

    assert __version__[0].isdigit()
    try:
        installed = importlib.metadata.version("harness-async")
    except importlib.metadata.PackageNotFoundError:
        return
    assert installed == __version__

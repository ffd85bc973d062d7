"""The projects that `--org` and `--project` select."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from harness_async import AuthenticationError, HarnessClient, HarnessError, Project, ProjectRef
from harness_async.cli.errors import CommandError


def check_spelling(projects: Sequence[ProjectRef]) -> None:
    """Check that no project is named twice in different ways, which would write its rows twice.

    Raises:
        CommandError: One is.
    """
    spellings: dict[str, ProjectRef] = {}
    for ref in projects:
        other = spellings.setdefault(str(ref).casefold(), ref)
        if other != ref:
            raise CommandError(
                f"--project {other} and --project {ref} are the same project.",
                "Harness ignores the case of identifiers: remove one.",
            )


def select_projects(
    client: HarnessClient, orgs: Sequence[str], projects: Sequence[ProjectRef], unlisted: dict[str, HarnessError]
) -> Sequence[ProjectRef] | AsyncIterator[ProjectRef | Project] | None:
    """Return the projects of `--project` and `--org`, or None for all.

    An organization that cannot be listed is added to `unlisted`, except if the key is rejected.
    """
    if not orgs:
        return projects or None

    def skip(org: str, error: HarnessError) -> bool:
        if isinstance(error, AuthenticationError):
            return False
        unlisted[org] = error
        return True

    async def iterate() -> AsyncIterator[ProjectRef | Project]:
        for ref in projects:
            yield ref
        named = {str(ref).casefold() for ref in projects}
        async with client.projects.walk_all(list(dict.fromkeys(orgs)), skip).walk() as walk:
            async for project in walk:
                if str(project.ref).casefold() not in named:
                    yield project

    return iterate()

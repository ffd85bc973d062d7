"""Organizations, projects and access to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness_async.testing.data.collection import COLLECTIONS, CollectionName, copy_json
from harness_async.testing.data.store import Store, display_name
from harness_async.testing.responses import Json

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT_ID = "Ab1Cd2Ef3Gh4Ij5Kl6Mn7O"


class Directory(Store):
    """The organizations and projects of an account."""

    def __init__(self, *, account_id: str = ACCOUNT_ID, case_sensitive: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.account_id = account_id
        self.case_sensitive = case_sensitive
        self.denied: dict[tuple[str, str | None], int] = {}
        self._spellings: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}

    @property
    def organizations(self) -> dict[str, Json]:
        """Every organization by identifier, in the order of addition."""
        with self.lock:
            return {row.key[0]: copy_json(row.wire) for row in self.table("organizations")}

    @property
    def projects(self) -> list[tuple[str, str]]:
        """Every project as a pair of organization and project identifier, in the order of addition."""
        with self.lock:
            return [(row.key[0], row.key[1]) for row in self.table("projects")]

    @property
    def project_objects(self) -> dict[tuple[str, str], Json]:
        """Every project by organization and project identifier, in the order of addition."""
        with self.lock:
            return {(row.key[0], row.key[1]): copy_json(row.wire) for row in self.table("projects")}

    def add_organization(self, identifier: str, name: str | None = None, **fields: Any) -> Json:
        """Add an organization, or replace the one with that identifier.

        *fields* go into the object (`description`, `tags`) or next to it (`created`, `updated`,
        `harness_managed`).
        """
        with self.lock:
            envelope = self._envelope(fields, harness_managed=identifier == "default")
            org = {"identifier": identifier, "name": name or display_name(identifier), **copy_json(fields)}
            self._remember((identifier,))
            return self._add("organizations", {"org": org, **envelope}, replace=True)

    def add_project(self, org: str, project: str, name: str | None = None, **fields: Any) -> Json:
        """Add a project without rows, and its organization if that is missing.

        An existing project keeps its rows and gets the new fields. *fields* go into the object (`color`,
        `modules`, `description`, `tags`) or next to it (`created`, `updated`, `isFavorite`).
        """
        with self.lock:
            if self.table("organizations").get((org,)) is None:
                self.add_organization(org)
            envelope = self._envelope(fields, isFavorite=False)
            inner = {
                "org": org,
                "identifier": project,
                "name": name or display_name(project),
                "modules": [],
                **copy_json(fields),
            }
            self._remember((org, project))
            return self._add("projects", {"project": inner, **envelope}, replace=True)

    def remove_project(self, org: str, project: str) -> None:
        """Remove a project and its rows. Raises KeyError if it does not exist."""
        with self.lock:
            if self.table("projects").remove((org, project)) is None:
                raise KeyError((org, project))
            self._forget((org, project))
            for tables in self._tables.values():
                tables.pop((org, project), None)

    def remove_organization(self, identifier: str) -> None:
        """Remove an organization, its projects and their rows. Raises KeyError if it does not exist."""
        with self.lock:
            if self.table("organizations").remove((identifier,)) is None:
                raise KeyError(identifier)
            self._forget((identifier,))
            for org, project in self.projects:
                if org == identifier:
                    self.remove_project(org, project)

    def remove(self, name: CollectionName, row: Mapping[str, Any]) -> None:
        """Remove the stored row with the identity of *row*. Raises KeyError if there is none."""
        key = COLLECTIONS[name].key(row)
        if name == "organizations":
            self.remove_organization(key[0])
        elif name == "projects":
            self.remove_project(key[0], key[1])
        else:
            super().remove(name, row)

    def deny(self, org: str, project: str | None = None, *, status: int = 403) -> None:
        """Respond with *status* to the requests for the rows of a project.

        Without *project*, to those of all projects of the organization and to the v1 list of its projects.
        """
        with self.lock:
            self.denied[org, project] = status

    def allow(self, org: str, project: str | None = None) -> None:
        """Revoke `deny` for the same arguments."""
        with self.lock:
            self.denied.pop((org, project), None)

    def spelling(self, *identifiers: str) -> tuple[str, ...]:
        """Return identifiers of an organization, or of organization and project, as they were added.

        Unless `case_sensitive`, identifiers that differ only in case are the same. Unknown identifiers are
        returned unchanged.
        """
        name: CollectionName = "organizations" if len(identifiers) == 1 else "projects"
        if self.case_sensitive or self.table(name).get(identifiers) is not None:
            return identifiers
        return next(iter(self._spellings.get(_lowered(identifiers), ())), identifiers)

    def ensure_project(self, org: str, project: str) -> None:
        """Add a project if it is missing."""
        if self.table("projects").get((org, project)) is None:
            self.add_project(org, project)

    def _remember(self, identifiers: tuple[str, ...]) -> None:
        self._spellings.setdefault(_lowered(identifiers), {})[identifiers] = None

    def _forget(self, identifiers: tuple[str, ...]) -> None:
        del self._spellings[_lowered(identifiers)][identifiers]

    def _envelope(self, fields: dict[str, Any], **defaults: object) -> Json:
        """Remove the members that stand next to an object in its envelope from *fields*, and return them."""
        now = self.now()
        members = {"created": now, "updated": fields.get("created", now), **defaults}
        return {name: fields.pop(name, value) for name, value in members.items()}


def _lowered(identifiers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.lower() for part in identifiers)

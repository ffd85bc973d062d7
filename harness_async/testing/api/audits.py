"""The audit events of the account."""

from __future__ import annotations

from typing import Any

from harness_async.testing.api.bodies import array, check_object, choice, integer
from harness_async.testing.api.dialects import NG
from harness_async.testing.api.filters import Test, is_any, within
from harness_async.testing.api.lists import List
from harness_async.testing.api.query import Query
from harness_async.testing.data.table import Row, getter

_STRINGS = {"actions": "action", "modules": "module"}
_OBJECTS = {"resources": "resource", "principals": "authenticationInfo.principal"}
_MEMBERS = {"filterType", "scopes", "includeChildScopes", "startTime", "endTime", "staticFilter", *_STRINGS, *_OBJECTS}
_LOGINS = frozenset({"LOGIN", "LOGIN2FA", "UNSUCCESSFUL_LOGIN"})
_SCOPE = ("accountIdentifier", "orgIdentifier", "projectIdentifier")


def _tests(query: Query, body: object) -> list[Test]:
    """Return the tests that a body describes."""
    members = check_object(query, body, _MEMBERS)
    choice(query, members, "filterType", ("Audit",))
    tests: list[Test] = []
    scopes = array(query, members, "scopes", dict)
    if scopes:
        tests.append(_in_scopes(scopes, children=members.get("includeChildScopes") is True))
    tests += [is_any(path, values) for name, path in _STRINGS.items() if (values := array(query, members, name, str))]
    tests += [
        _is_pair(path, values) for name, path in _OBJECTS.items() if (values := array(query, members, name, dict))
    ]
    test = within(query, integer(query, members, "startTime"), integer(query, members, "endTime"))
    tests += [] if test is None else [test]
    match choice(query, members, "staticFilter", ("EXCLUDE_LOGIN_EVENTS", "EXCLUDE_SYSTEM_EVENTS")):
        case "EXCLUDE_LOGIN_EVENTS":
            tests.append(lambda row: row.wire["action"] not in _LOGINS)
        case "EXCLUDE_SYSTEM_EVENTS":
            tests.append(lambda row: row.wire["authenticationInfo"]["principal"]["type"] != "SYSTEM")
        case _:
            pass
    return tests


def _in_scopes(scopes: list[Any], *, children: bool) -> Test:
    """Return the test of events that belong to one of the scopes or, with *children*, to a scope below it."""
    wanted = [tuple(scope.get(name) for name in _SCOPE) for scope in scopes]

    def test(row: Row) -> bool:
        own = tuple(row.wire["resourceScope"].get(name) for name in _SCOPE)
        if not children:
            return own in wanted
        return any(all(part in (None, mine) for part, mine in zip(scope, own, strict=True)) for scope in wanted)

    return test


def _is_pair(path: str, values: list[Any]) -> Test:
    """Return the test of events with one of the given types and identifiers in a member."""
    read = getter(path)
    pairs = {(value.get("type"), value.get("identifier")) for value in values}
    return lambda row: (read(row).get("type"), read(row).get("identifier")) in pairs


AUDIT_EVENTS = List(
    "audit_events",
    NG,
    default=50,
    maximum=100,
    scope="account",
    body=_tests,
    sorts={"timestamp": "timestamp"},
)

"""JSON, open enums, and the models of responses: what is accepted, what is refused, and the path of an error."""

from __future__ import annotations

import copy
import enum
import json
import math
import pickle
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async.errors import DecodeError
from harness_async.resources.executions import Execution, ExecutionStatus
from harness_async.resources.organizations import Organization
from harness_async.resources.projects import Project
from harness_async.serialization.converters import (
    OpenEnum,
    get_path,
    parse_json,
    register_model,
    structure,
    structure_rows,
    unstructure,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"
QUICK = settings(max_examples=30, deadline=None)

ROW: Mapping[str, Any] = {
    "account": "Ab1Cd2Ef3Gh4Ij5Kl6Mn7O",
    "created": 1691150743950,
    "org": "default",
    "pipeline": "provision_network",
    "pipeline_execution_id": "k3Vb7QxRTs-9pLmZ_a1YwA",
    "pipeline_stage_id": "Zt5nW0cGQ8q2rH4uJ6yXbg",
    "project": "platform",
    "status": "success",
    "workspace": "network_prod",
}
EXECUTION = Execution(**{**ROW, "status": ExecutionStatus.SUCCESS})
IDENTITY = ["org", "project", "pipeline_execution_id", "pipeline_stage_id"]
EMPTY: dict[str, Any] = {"account": "", "pipeline": "", "workspace": "", "status": ExecutionStatus.NONE, "created": 0}

WORDS = st.text(max_size=12)
STATUSES = st.sampled_from(["none", "success", "failure"]) | st.text(max_size=20)
EXECUTIONS = st.builds(
    Execution,
    **{name: WORDS for name in ROW if name not in {"status", "created"}},
    status=STATUSES.map(ExecutionStatus),
    created=st.integers(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def load(name: str) -> Any:
    return parse_json((FIXTURES / f"{name}.json").read_bytes())


def error_of(decode: Callable[[], object]) -> DecodeError:
    """Return the error of a decoding, whose text contains its path."""
    with pytest.raises(DecodeError) as caught:
        decode()
    assert f" {caught.value.path}" in str(caught.value)
    return caught.value


class Color(OpenEnum):
    """An open enum with a word that is not an identifier."""

    RED = "red"
    DARK_BLUE = "dark blue"


def test_known_words() -> None:
    """A known word is its member, and iterating yields the known words only."""
    assert ExecutionStatus("success") is ExecutionStatus.SUCCESS is ExecutionStatus["SUCCESS"]
    assert ExecutionStatus(ExecutionStatus.FAILURE) is ExecutionStatus.FAILURE
    assert Color("dark blue") is Color.DARK_BLUE
    assert repr(ExecutionStatus.SUCCESS) == "ExecutionStatus.SUCCESS"
    for number in range(50):
        ExecutionStatus(f"word {number}")
    assert list(ExecutionStatus) == ["none", "success", "failure"]
    assert len(ExecutionStatus) == 3
    assert all(status.is_known for status in ExecutionStatus)


@pytest.mark.parametrize("word", ["running", "Success", "", " success", "Vero ut.", "zürich", "name", "None"])
def test_unknown_words(word: str) -> None:
    """An unknown word is kept unchanged."""
    status = ExecutionStatus(word)
    assert isinstance(status, ExecutionStatus)
    assert (status.value, status.name, str(status)) == (word, word, word)
    assert not status.is_known
    assert repr(status) == f"ExecutionStatus({word!r})"


@QUICK
@given(STATUSES)
def test_words_behave_as_text(word: str) -> None:
    """A status compares, hashes, sorts, formats, serializes and copies like its text."""
    status = ExecutionStatus(word)
    assert status == word
    assert word == status
    assert not status != word  # noqa: SIM202 - both operators are the point
    assert not word != status  # noqa: SIM202
    assert status != f"{word}x"
    assert {word: 1}.get(status) == 1
    assert str(status) == f"{status}" == format(status) == "%s" % status == word  # noqa: UP031
    assert type(str(status)) is type(unstructure(status)) is str
    assert f"{status:>30}" == f"{word:>30}"
    assert sorted([status, "m"]) == sorted([word, "m"])
    assert json.dumps([status, {status: unstructure(status)}]) == json.dumps([word, {word: word}])
    others = [pickle.loads(pickle.dumps(status, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]  # noqa: S301
    for other in (*others, copy.copy(status), copy.deepcopy(status)):
        assert (type(other), other, other.is_known) == (ExecutionStatus, status, status.is_known)
        assert (other is status) or not status.is_known


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("Red", "did you mean 'red'?"),
        ("drak blue", "did you mean 'dark blue'?"),
        ("xyz", "known are 'red', 'dark blue'."),
    ],
)
def test_warning_about_an_unknown_word(word: str, hint: str) -> None:
    """An unknown word is warned about once, with the nearest known word or all of them; a known one is not."""
    expected = f"{word!r} is not a known Color; {hint} It is sent as given"
    with pytest.warns(UserWarning, match=f"^{re.escape(expected)}$"):
        Color.warn_if_unknown(word)
    for silent in (word, "red"):
        Color.warn_if_unknown(silent)


@pytest.mark.parametrize("value", [None, 7, True, b"success", ["success"]])
def test_words_are_texts(value: Any) -> None:
    """A value that is not text neither is nor equals a word."""
    with pytest.raises(ValueError, match="is not a valid ExecutionStatus"):
        ExecutionStatus(value)
    assert ExecutionStatus(str(value)) != value


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"null", None),
        (b" \r\n\t{} \n", {}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": "zürich"}'.encode(), {"a": "zürich"}),
        (b'"\\ud83d\\ude80"', "🚀"),
        (b"8261120883995203000", 8261120883995203000),
        (b"[1, -%s]" % (b"9" * 5000), [1, -math.inf]),
        (b"1e400", math.inf),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_json(body: bytes, value: object) -> None:
    """JSON in UTF-8 is parsed with or without a byte order mark, and integers are exact as far as Python has them."""
    assert parse_json(body) == value


@pytest.mark.parametrize(
    "body",
    [
        *[b"", b"<html>", b"[1] [2]", b'{"a": ', b"NaN", b"[Infinity]", b"[-Infinity]", b"[%s, NaN]" % (b"9" * 5000)],
        *[b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', "[]".encode("utf-16")],
        *[b"[" * 200_000 + b"]" * 200_000, b'{"a":' * 200_000, b"[" + b"9" * 5000 + b"," + b"[" * 200_000],
    ],
    ids=lambda body: ascii(body)[:20],
)
def test_refused_json(body: bytes) -> None:
    """A body that is not JSON in UTF-8, or is nested too deeply, is a `ValueError`."""
    with pytest.raises(ValueError):  # noqa: PT011 - the decoder's own words
        parse_json(body)


def test_executions() -> None:
    """The rows of a list and the responses of get and create become the same model."""
    (first, second), invalid = structure_rows(load("list_executions/typical"), Execution)
    assert (first, invalid) == (EXECUTION, [])
    assert second.status == "failure"
    assert second.key == ("default", "platform", "-q8Jc4NdSXy0tEwKfR2uVg", "p1LmO3aHTzKx7sYcD9eBfw")
    assert first.created_at == datetime(2023, 8, 4, 12, 5, 43, 950_000, UTC)
    assert structure(load("get_execution/typical"), Execution) == EXECUTION
    created = structure(load("create_execution/typical"), Execution)
    assert created == attrs.evolve(EXECUTION, status=ExecutionStatus.NONE)


MISSING = ...
"""Stands for a member that is left out."""


def change(row: Mapping[str, Any], member: str, value: object) -> dict[str, Any]:
    """Return a row with another value of a member, or without it."""
    return {name: each for name, each in {**row, member: value}.items() if each is not MISSING}


@pytest.mark.parametrize("value", [MISSING, None, 7, 1.5, True, ["default"], {"a": 1}], ids=repr)
@pytest.mark.parametrize("member", IDENTITY)
def test_identity_is_required(member: str, value: object) -> None:
    """An identity member that is missing, null or no string is an error with its path, never converted."""
    row = change(ROW, member, value)
    assert error_of(lambda: structure(row, Execution)).path == f"$.{member}"
    rows = [ROW, row, {**ROW, "project": None}]
    assert error_of(lambda: structure_rows(rows, Execution)).path == f"$[1].{member}"


@pytest.mark.parametrize("value", [MISSING, None], ids=["missing", "null"])
@pytest.mark.parametrize("member", EMPTY)
def test_other_members_are_optional(member: str, value: object) -> None:
    """A member outside the identity that is null or missing is empty, and changes no other member."""
    execution = structure(change(ROW, member, value), Execution)
    assert execution == attrs.evolve(EXECUTION, **{member: EMPTY[member]})
    assert type(getattr(execution, member)) is type(EMPTY[member])
    assert (execution.created_at is None) == (member == "created")


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        *[(name, 7, "expected a string, not a number") for name in EMPTY if name != "created"],
        ("account", False, "expected a string, not a boolean"),
        ("status", ["success"], "expected a string, not an array"),
        ("created", "1691150743950", "expected an integer, not a string"),
        ("created", True, "expected an integer, not a boolean"),
        ("created", 1.5, "expected an integer, not a number"),
        ("created", 1e400, "expected an integer, not a number"),
        ("created", {"a": 1}, "expected an integer, not an object"),
    ],
)
def test_wrong_types_count_as_missing(member: str, value: object, words: str) -> None:
    """A member outside the identity with another JSON type is empty, never converted, and is reported for each row."""
    row, expected = {**ROW, member: value}, attrs.evolve(EXECUTION, **{member: EMPTY[member]})
    assert structure(row, Execution) == expected
    rows, invalid = structure_rows([row, ROW, row], Execution)
    assert rows == [expected, EXECUTION, expected]
    assert invalid == [f"Execution.{member}: {words}"] * 2


def test_wrong_types_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A kind of invalid member is logged once, without anything that the server wrote."""

    @frozen
    class Label:
        id: str
        tags: Mapping[str, str] = attrs.field(factory=dict[str, str])

    register_model(Label, {"tags": "meta.tags"})
    for tags in ({"s3cr3t": 1}, {"s3cr3t": 2, "b": 3}, {"c": 4}):
        row = {"id": "x", "meta": {"tags": tags}}
        assert structure(row, Label) == Label("x")
        assert structure_rows([row, row], Label)[0] == [Label("x")] * 2
    (message,) = caplog.messages
    assert message.endswith(": Label.meta.tags: expected a string, not a number")


def test_context() -> None:
    """Missing and null fields are completed from the context, which replaces neither values nor errors."""
    context: dict[str, Any] = {"org": "o", "project": "p"}
    row = change(change(ROW, "org", MISSING), "project", None)
    expected = attrs.evolve(EXECUTION, **context)
    assert error_of(lambda: structure({**row, "org": 7}, Execution, context)).path == "$.org"
    assert structure(row, Execution, context) == expected
    assert structure_rows([row, ROW], Execution, context) == ([expected, EXECUTION], [])
    assert structure({"project": {"identifier": "x", "org": 7}}, Project, {"org": "o"}).org == "o"


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({"content": []}, "$", "expected an array, not an object at $"),
        ({}, "$", "not an object"),
        ([dict(ROW), None, dict(ROW)], "$[1]", "expected an object, not null"),
        ([dict(ROW), []], "$[1]", "expected an object, not an array"),
    ],
)
def test_lists_of_another_shape(body: object, path: str, words: str) -> None:
    """A list that is not an array, or a row that is not an object, is an error with its path."""
    error = error_of(lambda: structure_rows(body, Execution))
    assert error.path == path
    assert words in str(error)


@pytest.mark.parametrize("body", [None, [], [dict(ROW)], "x", 7, True])
@pytest.mark.parametrize("cls", [Execution, Organization, Project])
def test_objects_of_another_shape(body: object, cls: type[object]) -> None:
    """A response that is not the expected object is an error at the root."""
    assert error_of(lambda: structure(body, cls)).path == "$"


@pytest.mark.parametrize("body", [[], None])
@pytest.mark.parametrize("cls", [Execution, dict])
def test_empty_lists(body: object, cls: type[object]) -> None:
    """An empty array is an empty list, and so is null."""
    assert structure_rows(body, cls) == ([], [])


@QUICK
@given(EXECUTIONS, st.dictionaries(WORDS.map(lambda word: f"unknown {word}"), JSON, max_size=4))
def test_executions_round_trip(execution: Execution, unknown: dict[str, Any]) -> None:
    """An execution survives JSON and pickle, unknown members are ignored, and its time is in UTC or None."""
    row = unstructure(execution)
    assert row.keys() == ROW.keys()
    assert {type(value) for value in row.values()} <= {str, int}
    body = json.dumps([row, {**row, **unknown}]).encode()
    assert structure_rows(parse_json(body), Execution) == ([execution] * 2, [])
    assert structure({**unknown, **row}, Execution) == execution
    other = pickle.loads(pickle.dumps(execution))  # noqa: S301
    assert (other, hash(other), other.status.is_known) == (execution, hash(execution), execution.status.is_known)
    assert execution.created_at is None or execution.created_at.tzinfo is UTC


@QUICK
@given(st.sampled_from([ROW, {}]), st.dictionaries(st.sampled_from([*ROW]), JSON))
def test_any_row(row: Mapping[str, Any], changes: dict[str, Any]) -> None:
    """Any JSON row becomes an execution, or an error that names a member of the identity."""
    try:
        (execution,), invalid = structure_rows([{**row, **changes}], Execution)
    except DecodeError as error:
        assert error.path.removeprefix("$[0].") in IDENTITY  # noqa: PT017
    else:
        assert all(type(getattr(execution, name)) is str for name in [*IDENTITY, "account", "pipeline", "workspace"])
        assert (type(execution.created), type(execution.status)) == (int, ExecutionStatus)
        assert len(invalid) <= len(changes)


ORGANIZATION = Organization(
    identifier="default", name="default", description="Default organization",
    created=1650000000000, updated=1650000000000, harness_managed=True,
)  # fmt: skip
PROJECT = Project(
    org="infrastructure", identifier="platform", name="Platform", color="#0063F7", modules=("CD",),
    description="Platform team", tags={"team": "platform"}, created=1660000000000, updated=1670000000000,
)  # fmt: skip


@pytest.mark.parametrize("value", [EXECUTION, ORGANIZATION, PROJECT], ids=lambda value: type(value).__name__)
def test_models_are_values(value: Any) -> None:
    """Models are immutable, picklable, and equal and hashable by value, in spite of their tags."""
    other = pickle.loads(pickle.dumps(value))  # noqa: S301
    assert (other, hash(other)) == (value, hash(value))
    assert attrs.evolve(value, created=1) != value
    assert not hasattr(value, "__dict__")
    with pytest.raises(AttributeError):
        value.created = 1


def test_projects() -> None:
    """Projects are unwrapped from their envelopes; missing members are empty, unknown ones are ignored."""
    (first, second), _ = structure_rows(load("list_projects/typical"), Project)
    body = load("get_project/typical")
    assert first == structure(body, Project) == PROJECT
    assert structure({**body, "later": 1, "project": {**body["project"], "new": [None]}}, Project) == PROJECT
    assert second == Project(
        org="infrastructure", identifier="network", name="Network", created=1660000000001, updated=1670000000001
    )
    assert str(first.ref) == "infrastructure/platform"
    # `isFavorite` is the one member in camel case.
    assert structure({"project": {"identifier": "x"}, "isFavorite": True}, Project).is_favorite
    assert not structure({"project": {"identifier": "x"}, "is_favorite": True}, Project).is_favorite


@pytest.mark.parametrize(
    ("cls", "body"),
    [
        *[
            (Organization, {"org": value})
            for value in (None, list[Any](), "x", {"identifier": None}, {"identifier": 7})
        ],
        (Organization, {"identifier": "x"}),
        (Project, {"project": {"org": "o"}}),
    ],
    ids=str,
)
def test_paths_in_envelopes(cls: type[object], body: dict[str, Any]) -> None:
    """A missing or wrong identifier is an error with its path in the JSON, envelope included, in a list and alone."""
    path = "org.identifier" if cls is Organization else "project.identifier"
    fitting = {"org": {"identifier": "x"}, "project": {"identifier": "x"}}
    assert error_of(lambda: structure(body, cls)).path == f"$.{path}"
    assert error_of(lambda: structure_rows([fitting, body], cls)).path == f"$[1].{path}"


@pytest.mark.parametrize(
    ("body", "invalid"),
    [
        ({"project": {"org": 1}}, "project.org: expected a string, not a number"),
        ({"project": {"modules": "CD"}}, "project.modules: expected an array, not a string"),
        ({"project": {"modules": ["CD", 1]}}, "project.modules: expected a string, not a number"),
        ({"project": {"tags": {"a": None}}}, "project.tags: expected a string, not null"),
        ({"created": "1"}, "created: expected an integer, not a string"),
        ({"isFavorite": 1}, "isFavorite: expected true or false, not a number"),
    ],
    ids=str,
)
def test_invalid_members_in_envelopes(body: dict[str, Any], invalid: str) -> None:
    """Another member of a wrong type, or with a part of a wrong type, is empty and reported with its path."""
    row = {**body, "project": {"identifier": "x", **body.get("project", {})}}
    assert structure_rows([row], Project) == ([Project(identifier="x")], [f"Project.{invalid}"])


class Level(enum.IntEnum):
    """A closed enum of numbers."""

    LOW = 1


class Kind(enum.StrEnum):
    """A closed enum of texts."""

    PLAN = "plan"


@frozen
class Cost:
    """A row as a user declares it for `paginate`."""

    workspace: str
    amount: float = 0.0
    currency: str | None = None
    colors: list[Color] = attrs.field(factory=list[Color])
    parent: Cost | None = None
    level: Level = Level.LOW
    kind: Kind = Kind.PLAN


def test_models_of_callers() -> None:
    """Any attrs class is supported, with optional, nested, open and closed members; a float accepts 5 for 5.0."""
    body = [{"workspace": "w", "amount": 5, "colors": ["red", "mauve"], "parent": {"workspace": "p"}, "kind": "plan"}]
    (row,), invalid = structure_rows(body, Cost)
    assert (row, invalid) == (Cost("w", 5.0, None, [Color.RED, Color("mauve")], Cost("p")), [])
    assert (type(row.level), type(row.kind), type(row.colors[1])) == (Level, Kind, Color)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"workspace": None}, "$[0].workspace"),
        ({"currency": 7}, "$[0].currency"),
        ({"colors": ["red", 7]}, "$[0].colors[1]"),
        ({"parent": {"amount": 1.5}}, "$[0].parent.workspace"),
        ({"amount": "1.5"}, "$[0].amount"),
        ({"amount": True}, "$[0].amount"),
        ({"level": 2}, "$[0].level"),
        ({"kind": "drift"}, "$[0].kind"),
    ],
    ids=str,
)
def test_paths_in_models_of_callers(change: dict[str, Any], path: str) -> None:
    """A value that does not fit a caller's class is an error with its path."""
    assert error_of(lambda: structure_rows([{"workspace": "w", **change}], Cost)).path == path


def test_plain_rows() -> None:
    """Without a class the rows are unchanged, and each must be an object."""
    rows: list[dict[str, Any]] = [{"a": None, "b": math.pi}, {}]
    assert structure_rows(rows, dict) == ([{"a": None, "b": math.pi}, {}], [])
    error = error_of(lambda: structure_rows([{}, None], dict, root="data.content"))
    assert error.path == "$.data.content[1]"
    assert "expected an object" in str(error)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"data": {"content": [1]}}, [1]),
        (None, None),
        *[({"data": body}, None) for body in (None, dict[str, Any](), {"content": None})],
        *[(body, "$") for body in (list[Any](), "x", 0)],
        *[({"data": body}, "$.data") for body in (list[Any](), "x", 0)],
    ],
)
def test_get_path(body: object, found: Any) -> None:
    """A dotted path leads to a value, to None where a member is missing or null, or to an error with its path."""
    if isinstance(found, str):
        assert error_of(lambda: get_path(body, "data.content")).path == found
    else:
        assert get_path(body, "data.content") == found
        assert get_path(body, "") is body

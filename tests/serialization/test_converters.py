from __future__ import annotations

import copy
import enum
import json
import math
import pickle
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
from harness_async.serialization.converters import OpenEnum, parse_json, structure, structure_rows, unstructure

FIXTURES = Path(__file__).parents[1] / "fixtures"
QUICK = settings(max_examples=60, deadline=None)

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
EXECUTION = Execution(
    account="Ab1Cd2Ef3Gh4Ij5Kl6Mn7O",
    org="default",
    project="platform",
    pipeline="provision_network",
    pipeline_execution_id="k3Vb7QxRTs-9pLmZ_a1YwA",
    pipeline_stage_id="Zt5nW0cGQ8q2rH4uJ6yXbg",
    workspace="network_prod",
    status=ExecutionStatus.SUCCESS,
    created=1691150743950,
)
IDENTITY = ["org", "project", "pipeline_execution_id", "pipeline_stage_id"]
EMPTY: dict[str, Any] = {"account": "", "pipeline": "", "workspace": "", "status": ExecutionStatus.NONE, "created": 0}

WORDS = st.text(max_size=12)
EXECUTIONS = st.builds(
    Execution,
    account=WORDS,
    org=WORDS,
    project=WORDS,
    pipeline=WORDS,
    pipeline_execution_id=WORDS,
    pipeline_stage_id=WORDS,
    workspace=WORDS,
    status=st.sampled_from(ExecutionStatus) | WORDS.map(ExecutionStatus),
    created=st.integers(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
UNKNOWN_MEMBERS = st.dictionaries(WORDS.map(lambda word: f"unknown {word}"), JSON, max_size=4)


def load(name: str) -> Any:
    return parse_json((FIXTURES / f"{name}.json").read_bytes())


def path_of(call: Callable[[], object]) -> str:
    """Give the path of the error that a call raises, which the text says too."""
    with pytest.raises(DecodeError) as caught:
        call()
    error = caught.value
    assert str(error).startswith("The answer does not fit: ")
    assert f" {error.path}" in str(error)
    return error.path


# -- open enums ------------------------------------------------------------------------------------------------------


class Colour(OpenEnum):
    """Words of another vocabulary."""

    RED = "red"
    DARK_BLUE = "dark blue"


def test_known_words_are_members() -> None:
    """A word that the library knows is its member, always the same object."""
    assert ExecutionStatus("success") is ExecutionStatus.SUCCESS
    assert ExecutionStatus(ExecutionStatus.FAILURE) is ExecutionStatus.FAILURE
    assert Colour("dark blue") is Colour.DARK_BLUE


@pytest.mark.parametrize(
    "word", ["running", "Success", "", " success", "SUCCESS", "Vero ut.", "zürich", "name", "None"]
)
def test_unknown_words_are_kept(word: str) -> None:
    """A word that the library does not know is kept as it came."""
    status = ExecutionStatus(word)
    assert isinstance(status, ExecutionStatus)
    assert (status.value, status.name, str(status)) == (word, word, word)
    assert not status.is_known
    assert repr(status) == f"ExecutionStatus({word!r})"


@QUICK
@given(st.sampled_from(["none", "success", "failure"]) | st.text(max_size=20))
def test_words_are_their_text(word: str) -> None:
    """A status equals its text in both directions, hashes as it does, and prints and formats as it does."""
    status = ExecutionStatus(word)
    assert status == word
    assert word == status
    assert not status != word  # noqa: SIM202 - both operators are the point
    assert not word != status  # noqa: SIM202
    assert status != f"{word}x"
    assert hash(status) == hash(word)
    assert {word: 1}.get(status) == 1
    assert word in {status, "another"}
    assert str(status) == f"{status}" == format(status) == "%s" % status == word  # noqa: UP031
    assert type(str(status)) is str
    assert f"{status:>30}" == f"{word:>30}"
    assert "".join(["<", status, ">"]) == f"<{word}>"  # noqa: FLY002 - joining is another path than formatting
    assert sorted([status, "m"]) == sorted([word, "m"])


@QUICK
@given(st.sampled_from(["none", "success", "failure"]) | st.text(max_size=20))
def test_words_survive_every_copy(word: str) -> None:
    """A status goes through pickle, copy, JSON and the wire unchanged."""
    status = ExecutionStatus(word)
    others = [copy.copy(status), copy.deepcopy(status)]
    others += [pickle.loads(pickle.dumps(status, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]  # noqa: S301
    for other in others:
        assert (type(other), other, other.is_known) == (ExecutionStatus, status, status.is_known)
        assert (other is status) or not status.is_known
    assert json.dumps([status, {status: status}]) == json.dumps([word, {word: word}])
    assert type(unstructure(status)) is str
    assert unstructure(status) == word


def test_words_are_unlike_other_things() -> None:
    """A status equals no number, no None, and no other word."""
    assert ExecutionStatus.NONE != None  # noqa: E711
    assert ExecutionStatus("7") != 7
    assert ExecutionStatus("running") != ExecutionStatus("aborted")
    assert ExecutionStatus("running") == ExecutionStatus("running")


def test_known_words_are_known() -> None:
    """The documented words are known, one by one and by iterating; unknown ones do not pile up in the class."""
    before = list(ExecutionStatus)
    for number in range(50):
        ExecutionStatus(f"word {number}")
    assert list(ExecutionStatus) == before == ["none", "success", "failure"]
    assert len(ExecutionStatus) == 3
    assert all(status.is_known for status in ExecutionStatus)
    assert repr(ExecutionStatus.SUCCESS) == "ExecutionStatus.SUCCESS"
    assert ExecutionStatus["SUCCESS"] is ExecutionStatus.SUCCESS
    assert not hasattr(ExecutionStatus, "word 1")


@pytest.mark.parametrize("value", [None, 7, True, b"success", ["success"]])
def test_only_texts_are_words(value: Any) -> None:
    """What is no text is no word."""
    with pytest.raises(ValueError, match="is not a valid ExecutionStatus"):
        ExecutionStatus(value)


# -- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(b"[]", [], id="array"),
        pytest.param(b"null", None, id="null"),
        pytest.param(b" \r\n\t{} \n", {}, id="white space"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', {"a": 1}, id="byte order mark"),
        pytest.param('{"a": "zürich"}'.encode(), {"a": "zürich"}, id="UTF-8"),
        pytest.param(b"8261120883995203000", 8261120883995203000, id="number beyond a float"),
        pytest.param(b"-" + b"9" * 4300, 1 - 10**4300, id="as many digits as Python converts"),
        pytest.param(b"[1, %s]" % (b"9" * 4301), [1, math.inf], id="more digits than Python converts"),
        pytest.param(b"-" + b"9" * 5000, -math.inf, id="more digits below zero"),
        pytest.param(b"1e400", math.inf, id="number beyond every float"),
        pytest.param(b'"\\ud83d\\ude80"', "🚀", id="escaped pair"),
    ],
)
def test_json(body: bytes, value: object) -> None:
    """JSON in UTF-8 is decoded, with or without a byte order mark, integers exactly as far as Python has them."""
    assert parse_json(body) == value


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="page"),
        pytest.param(b"{'a': 1}", id="other quotes"),
        pytest.param(b"[1] [2]", id="two values"),
        pytest.param(b'{"a": ', id="cut"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b'[{"created": NaN}]', id="NaN inside"),
        pytest.param(b"[Infinity]", id="infinity"),
        pytest.param(b"[-Infinity]", id="minus infinity"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b'"\xc3"', id="cut in a character"),
        pytest.param(b'"\xed\xa0\x80"', id="encoded surrogate"),
        pytest.param("[]".encode("utf-16"), id="UTF-16"),
        pytest.param(b"[" * 200_000, id="nested too deep and cut"),
        pytest.param(b"[" * 200_000 + b"]" * 200_000, id="nested too deep"),
        pytest.param(b'{"a":' * 200_000 + b"1" + b"}" * 200_000, id="objects nested too deep"),
        pytest.param(b"[%s, NaN]" % (b"9" * 5000), id="NaN behind more digits than Python converts"),
        pytest.param(b"[" + b"9" * 5000 + b"," + b"[" * 200_000, id="nested too deep behind more digits"),
        pytest.param(b'"a\nb"', id="line break in a text"),
    ],
)
def test_what_is_no_json(body: bytes) -> None:
    """What is not JSON in UTF-8, or nested beyond reason, is a ValueError and nothing worse."""
    with pytest.raises(ValueError):  # noqa: PT011 - the decoder's own words
        parse_json(body)


@QUICK
@given(st.binary(max_size=40))
def test_any_bytes_are_json_or_a_value_error(body: bytes) -> None:
    """No body makes the parser raise anything else."""
    try:
        parse_json(body)
    except ValueError:
        return


# -- executions ------------------------------------------------------------------------------------------------------


def test_a_list_of_executions() -> None:
    """The rows of a list become executions, in order."""
    first, second = structure_rows(load("list_executions/typical"), Execution)
    assert first == EXECUTION
    assert second.status == "failure"
    assert second.key == ("default", "platform", "-q8Jc4NdSXy0tEwKfR2uVg", "p1LmO3aHTzKx7sYcD9eBfw")
    assert first.created_at == datetime(2023, 8, 4, 12, 5, 43, 950_000, UTC)


def test_extreme_executions() -> None:
    """Values as odd as the documentation's own samples are kept as they came."""
    first, second = structure_rows(load("list_executions/extremes"), Execution)
    assert (first.created, first.created_at, first.status) == (6888319567272032000, None, ExecutionStatus.NONE)
    assert first.pipeline_execution_id == "Another sentence / with a slash"
    assert (second.created, second.created_at) == (8261120883995203000, None)
    assert second.status == "Vero ut."
    assert second.key == ("2z", "k", "-2w/../b", "?x=1#y")


@pytest.mark.parametrize("word", ["none", "success", "failure", "running"])
def test_statuses_of_rows_are_of_the_enum(word: str) -> None:
    """The status of a row is a member where the word is known, and a word of the enum where it is not."""
    for made in (
        structure({**ROW, "status": word}, Execution),
        structure_rows([{**ROW, "status": word}], Execution)[0],
    ):
        assert type(made.status) is ExecutionStatus
        assert made.status.is_known == (word in {"none", "success", "failure"})


@pytest.mark.parametrize(
    ("case", "status"), [("get_execution/typical", "success"), ("create_execution/typical", "none")]
)
def test_one_execution(case: str, status: str) -> None:
    """The answers of get and create become the same model as the rows of a list."""
    assert structure(load(case), Execution) == attrs.evolve(EXECUTION, status=ExecutionStatus(status))


def test_empty_lists() -> None:
    """An empty array is an empty list, and so is null."""
    assert structure_rows(load("list_executions/empty"), Execution) == []
    assert structure_rows(None, Execution) == []
    assert structure_rows(None, dict) == []


@pytest.mark.parametrize("change", ["null", "missing"])
@pytest.mark.parametrize("member", IDENTITY)
def test_executions_need_their_identity(member: str, change: str) -> None:
    """An identity member that is null or missing is an error with its path, never the text "None"."""
    row = {**ROW, member: None}
    if change == "missing":
        del row[member]
    assert path_of(lambda: structure(row, Execution)) == f"$.{member}"
    assert path_of(lambda: structure_rows([ROW, ROW, ROW, row, ROW], Execution)) == f"$[3].{member}"


@pytest.mark.parametrize("change", ["null", "missing"])
@pytest.mark.parametrize("member", EMPTY)
def test_other_members_may_be_left_out(member: str, change: str) -> None:
    """Any other member that is null or missing is empty, as documented, and touches nothing else."""
    row = {**ROW, member: None}
    if change == "missing":
        del row[member]
    made = structure(row, Execution)
    assert made == attrs.evolve(EXECUTION, **{member: EMPTY[member]})
    assert type(getattr(made, member)) is type(EMPTY[member])


def test_an_execution_of_its_identity_alone() -> None:
    """The identity members suffice; the identity of an execution is all of them."""
    made = structure({name: ROW[name] for name in IDENTITY}, Execution)
    assert {name: getattr(made, name) for name in EMPTY} == EMPTY
    assert made.created_at is None
    assert made.key == EXECUTION.key == tuple(ROW[name] for name in IDENTITY)


TEXTS = [name for name in ROW if name != "created"]


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        *[pytest.param(name, 7, "expected a text, not a number", id=f"number for {name}") for name in TEXTS],
        *[pytest.param(name, False, "expected a text, not a boolean", id=f"bool for {name}") for name in TEXTS],
        pytest.param("org", ["default"], "expected a text, not an array", id="array for text"),
        pytest.param("org", {"a": 1}, "expected a text, not an object", id="object for text"),
        pytest.param("status", 1.5, "expected a text, not a number", id="fraction for status"),
        pytest.param("created", "1691150743950", "expected a whole number, not a text", id="text for int"),
        pytest.param("created", "", "expected a whole number, not a text", id="empty text for int"),
        pytest.param("created", True, "expected a whole number, not a boolean", id="bool for int"),
        pytest.param("created", 1.5, "expected a whole number, not a number", id="fraction for int"),
        pytest.param("created", 1e400, "expected a whole number, not a number", id="infinity for int"),
        pytest.param("created", [1], "expected a whole number, not an array", id="array for int"),
    ],
)
def test_wrong_types(member: str, value: object, words: str) -> None:
    """A member of the wrong JSON type is refused with its path and both types, never converted."""
    row = {**ROW, member: value}
    assert path_of(lambda: structure(row, Execution)) == f"$.{member}"
    assert path_of(lambda: structure_rows([ROW, row], Execution)) == f"$[1].{member}"
    with pytest.raises(DecodeError, match=words):
        structure(row, Execution)


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        pytest.param({"content": []}, "$", "expected an array at \\$, not an object", id="object"),
        pytest.param({}, "$", "not an object", id="empty object"),
        pytest.param("x", "$", "not a text", id="text"),
        pytest.param(0, "$", "not a number", id="number"),
        pytest.param(False, "$", "not a boolean", id="boolean"),
        pytest.param([None], "$[0]", "expected an object, not null", id="null row"),
        pytest.param([dict(ROW), None, dict(ROW)], "$[1]", "expected an object, not null", id="null row inside"),
        pytest.param([dict(ROW), []], "$[1]", "expected an object, not an array", id="array row"),
        pytest.param([dict(ROW), dict(ROW), "x"], "$[2]", "expected an object, not a text", id="text row"),
    ],
)
def test_lists_of_another_shape(body: object, path: str, words: str) -> None:
    """A list that is no array, or a row that is no object, is an error with its path."""
    assert path_of(lambda: structure_rows(body, Execution)) == path
    with pytest.raises(DecodeError, match=words):
        structure_rows(body, Execution)


@pytest.mark.parametrize("body", [None, [], [dict(ROW)], "x", 7, True])
@pytest.mark.parametrize("cls", [Execution, Organization, Project])
def test_objects_of_another_shape(body: object, cls: type[object]) -> None:
    """An answer that should be one object and is not is an error at the root."""
    assert path_of(lambda: structure(body, cls)) == "$"


def test_the_first_thing_wrong_is_named() -> None:
    """Where several rows do not fit, the first one is named."""
    rows = [ROW, {**ROW, "org": 1}, {**ROW, "project": None}]
    assert path_of(lambda: structure_rows(rows, Execution)) == "$[1].org"


@QUICK
@given(UNKNOWN_MEMBERS, EXECUTIONS)
def test_unknown_members_change_nothing(unknown: dict[str, Any], execution: Execution) -> None:
    """Members that the model does not know are ignored, whatever is in them."""
    row = unstructure(execution)
    assert structure({**unknown, **row}, Execution) == execution
    assert structure_rows([{**row, **unknown}], Execution) == [execution]


@QUICK
@given(EXECUTIONS)
def test_executions_go_to_the_wire_and_back(execution: Execution) -> None:
    """Structuring what unstructuring gives is the identity, through JSON text as well."""
    row = unstructure(execution)
    assert structure(row, Execution) == execution
    assert structure(parse_json(json.dumps(row).encode()), Execution) == execution
    assert {type(value) for value in row.values()} <= {str, int}


@QUICK
@given(st.lists(EXECUTIONS, max_size=5))
def test_rows_go_to_the_wire_and_back(executions: list[Execution]) -> None:
    """The same holds for lists, row by row and in order."""
    assert structure_rows([unstructure(execution) for execution in executions], Execution) == executions


def test_wire_names_of_an_execution() -> None:
    """An execution goes out under the wire's names, with the values that came in."""
    assert unstructure(structure(ROW, Execution)) == ROW


@QUICK
@given(st.sampled_from([ROW, {}]), st.dictionaries(st.sampled_from([*ROW]), JSON))
def test_any_row_fits_or_is_a_decode_error(row: Mapping[str, Any], changes: dict[str, Any]) -> None:
    """Whatever JSON comes as a row, it becomes an execution or an error that names a member."""
    try:
        made = structure_rows([{**row, **changes}], Execution)[0]
    except DecodeError as error:
        assert error.path.removeprefix("$[0].") in ROW  # noqa: PT017
    else:
        assert all(type(getattr(made, name)) is str for name in IDENTITY)
        assert type(made.created) is int


def test_executions_are_values() -> None:
    """Executions are equal and hash by value, are picklable and immutable, and have slots."""
    one, other = structure(ROW, Execution), structure(dict(ROW), Execution)
    assert one is not other
    assert one == other
    assert len({one, other, attrs.evolve(one, created=1)}) == 2
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301
    assert not hasattr(one, "__dict__")
    for name in (*ROW, "anything"):
        with pytest.raises(AttributeError):
            setattr(one, name, "x")
    with pytest.raises(TypeError):
        Execution("a", "b")  # type: ignore[call-arg]


@QUICK
@given(EXECUTIONS)
def test_any_execution_pickles_and_has_a_time_or_none(execution: Execution) -> None:
    """Every execution pickles, hashes, and tells its time without raising."""
    other = pickle.loads(pickle.dumps(execution))  # noqa: S301
    assert (other, hash(other), other.status.is_known) == (execution, hash(execution), execution.status.is_known)
    assert execution.created_at is None or execution.created_at.tzinfo is UTC
    assert execution.key == (
        execution.org,
        execution.project,
        execution.pipeline_execution_id,
        execution.pipeline_stage_id,
    )


# -- organizations and projects --------------------------------------------------------------------------------------

DEFAULT_ORG = Organization(
    identifier="default",
    name="default",
    description="Default organization",
    created=1650000000000,
    updated=1650000000000,
    harness_managed=True,
)
PLATFORM = Project(
    org="infrastructure",
    identifier="platform",
    name="Platform",
    color="#0063F7",
    modules=("CD",),
    description="Platform team",
    tags={"team": "platform"},
    created=1660000000000,
    updated=1670000000000,
    is_favorite=False,
)


def test_organizations() -> None:
    """Organizations come out of their envelopes, in a list and alone."""
    first, second = structure_rows(load("list_organizations/typical"), Organization)
    assert first == DEFAULT_ORG
    assert (second.identifier, second.tags) == ("infrastructure", {"team": "platform"})
    one = structure(load("get_organization/typical"), Organization)
    assert one.identifier
    assert one.created_at == datetime.fromtimestamp(one.created / 1000, UTC)
    assert one.updated_at == datetime.fromtimestamp(one.updated / 1000, UTC)


def test_projects() -> None:
    """Projects come out of their envelopes, in a list and alone; what is left out is empty."""
    first, second = structure_rows(load("list_projects/typical"), Project)
    assert first == structure(load("get_project/typical"), Project) == PLATFORM
    assert second == Project(
        org="infrastructure", identifier="network", name="Network", created=1660000000001, updated=1670000000001
    )
    assert str(first.ref) == "infrastructure/platform"


def test_favorites_come_under_their_published_spelling() -> None:
    """`isFavorite`, the one member in camel case, is read; its snake case is an unknown member."""
    body = {"project": {"identifier": "x"}}
    assert structure({**body, "isFavorite": True}, Project).is_favorite is True
    assert structure({**body, "is_favorite": True}, Project).is_favorite is False


def test_models_of_v1_are_values() -> None:
    """Organizations and projects are equal by value, hashable in spite of their tags, and picklable."""
    for value in (DEFAULT_ORG, PLATFORM):
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301
        assert hash(value) == hash(copy.copy(value))
        with pytest.raises(AttributeError):
            value.name = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("cls", "body", "path"),
    [
        pytest.param(Organization, {}, "$", id="empty envelope"),
        pytest.param(Organization, {"org": None}, "$", id="null inside"),
        pytest.param(Organization, {"org": []}, "$", id="array inside"),
        pytest.param(Organization, {"org": {}}, "$.org.identifier", id="identifier missing"),
        pytest.param(Organization, {"org": {"identifier": None}}, "$.org.identifier", id="identifier null"),
        pytest.param(Organization, {"org": {"identifier": 7}}, "$.org.identifier", id="identifier a number"),
        pytest.param(Organization, {"identifier": "x"}, "$", id="without an envelope"),
        pytest.param(Organization, {"org": {"identifier": "x", "tags": {"a": 1}}}, "$.org.tags['a']", id="tag"),
        pytest.param(Organization, {"org": {"identifier": "x"}, "created": "1"}, "$.created", id="text for time"),
        pytest.param(
            Organization, {"org": {"identifier": "x"}, "harness_managed": 1}, "$.harness_managed", id="number for bool"
        ),
        pytest.param(Project, {"project": {}}, "$.project.identifier", id="project's identifier missing"),
        pytest.param(Project, {"project": {"identifier": "x", "org": 1}}, "$.project.org", id="project's org"),
        pytest.param(
            Project, {"project": {"identifier": "x", "modules": ["CD", 1]}}, "$.project.modules[1]", id="module"
        ),
        pytest.param(
            Project,
            {"project": {"identifier": "x"}, "isFavorite": 1},
            "$.isFavorite",
            id="wire name",
        ),
        pytest.param(
            Organization,
            {"org": {"identifier": "x", "tags": {"a @ b": 1}}},
            "$.org.tags['a @ b']",
            id="at sign in a tag",
        ),
    ],
)
def test_paths_in_envelopes(cls: type[object], body: dict[str, Any], path: str) -> None:
    """What does not fit in an envelope is named by its path on the wire, in a list and alone."""
    assert path_of(lambda: structure(body, cls)) == path
    fitting = {"org": {"identifier": "x"}, "project": {"identifier": "x"}}
    assert path_of(lambda: structure_rows([fitting, body], cls)) == path.replace("$", "$[1]", 1)


@QUICK
@given(UNKNOWN_MEMBERS, UNKNOWN_MEMBERS)
def test_unknown_members_of_envelopes_change_nothing(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    """Members that no model knows are ignored, in the envelope and in what it holds."""
    body = load("get_project/typical")
    assert structure({**outer, **body, "project": {**inner, **body["project"]}}, Project) == PLATFORM


# -- models of the caller's ------------------------------------------------------------------------------------------


@frozen
class Cost:
    """A row as a user would declare it for `paginate`."""

    workspace: str
    amount: float = 0.0
    currency: str | None = None
    colours: list[Colour] = attrs.field(factory=list[Colour])
    parent: Cost | None = None


def test_models_of_the_callers() -> None:
    """Any attrs class can be made of a row, optional, nested and open members included."""
    body = [{"workspace": "w", "amount": 1.5, "colours": ["red", "mauve"], "parent": {"workspace": "p"}}]
    (row,) = structure_rows(body, Cost)
    assert row == Cost("w", 1.5, None, [Colour.RED, Colour("mauve")], Cost("p"))


class Level(enum.IntEnum):
    """A closed enum of the caller's, over numbers."""

    LOW = 1


class Kind(enum.StrEnum):
    """A closed enum of the caller's, over texts."""

    PLAN = "plan"


@frozen
class Closed:
    """A row with enums of the caller's."""

    level: Level
    kind: Kind
    colour: Colour


def test_enums_of_the_callers() -> None:
    """Enums in a caller's class come as their members, whatever they are made of."""
    row = structure({"level": 1, "kind": "plan", "colour": "mauve"}, Closed)
    assert (type(row.level), type(row.kind), type(row.colour)) == (Level, Kind, Colour)


@pytest.mark.parametrize(("member", "value"), [("level", 2), ("kind", "drift")])
def test_closed_enums_of_the_callers_are_closed(member: str, value: object) -> None:
    """A word that a closed enum does not know does not fit."""
    row = {"level": 1, "kind": "plan", "colour": "red", member: value}
    assert path_of(lambda: structure(row, Closed)) == f"$.{member}"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"workspace": None}, "$[0].workspace"),
        ({"currency": 7}, "$[0].currency"),
        ({"colours": ["red", 7]}, "$[0].colours[1]"),
        ({"parent": {"amount": 1.5}}, "$[0].parent.workspace"),
        ({"amount": "1.5"}, "$[0].amount"),
        ({"amount": True}, "$[0].amount"),
    ],
    ids=["required", "optional", "open enum", "nested", "text for float", "bool for float"],
)
def test_paths_in_models_of_the_callers(change: dict[str, Any], path: str) -> None:
    """What does not fit a caller's class is named by its path too."""
    assert path_of(lambda: structure_rows([{"workspace": "w", **change}], Cost)) == path


def test_a_whole_number_is_a_number() -> None:
    """JSON has one kind of number: a float member takes 5 as well as 5.0."""
    assert structure({"workspace": "w", "amount": 5}, Cost).amount == 5.0


def test_rows_as_plain_dicts() -> None:
    """Without a class the rows stay as they came, each an object."""
    rows: list[dict[str, Any]] = [{"a": None, "b": math.pi}, {}]
    assert structure_rows(rows, dict) == [{"a": None, "b": math.pi}, {}]
    with pytest.raises(DecodeError, match=r"expected an object at \$\[1\], not null") as caught:
        structure_rows([{}, None], dict)
    assert caught.value.path == "$[1]"

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async import DecodeError, Execution, ExecutionStatus, HarnessClient, Organization, Project, decoding
from harness_async.converters import OpenEnum, converter, parse_json, structure_rows
from harness_async.decoding import rows_decoder
from harness_async.testing import Body, FakeHarness

FIXTURES = Path(__file__).parent / "fixtures"

with_decoder = pytest.mark.skipif(importlib.util.find_spec("msgspec") is None, reason="needs the extra speed")


class Colour(OpenEnum):
    """Words of another vocabulary."""

    RED = "red"
    DARK_BLUE = "dark blue"


def decode_rows(body: bytes, cls: type[Any]) -> list[Any]:
    """Make rows as a list that is asked for now would."""
    return rows_decoder(cls)(body)


@frozen
class Part:
    """Something inside a row."""

    name: str
    weight: float = 0.0


@frozen
class Thing:
    """A row as a user would declare it for `paginate`, with members of every kind that the C decoder takes."""

    name: str
    weight: float
    count: int = 0
    good: bool = False
    colour: Colour = Colour.RED
    note: str | None = None
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    colours: list[Colour] = attrs.field(factory=list[Colour])
    labels: dict[str, float] = attrs.field(factory=dict[str, float])
    inner: tuple[Thing, ...] = ()


MODELS = [Execution, Project, Organization, Thing, dict]

ROWS: dict[type, dict[str, Any]] = {
    Execution: {
        "account": "Ab1Cd2Ef3Gh4Ij5Kl6Mn7O",
        "created": 1691150743950,
        "org": "default",
        "pipeline": "provision_network",
        "pipeline_execution_id": "k3Vb7QxRTs-9pLmZ_a1YwA",
        "pipeline_stage_id": "Zt5nW0cGQ8q2rH4uJ6yXbg",
        "project": "platform",
        "status": "success",
        "workspace": "network_prod",
    },
    Project: {
        "project": {"org": "o", "identifier": "p", "name": "P", "modules": ["CD"], "tags": {"team": "x"}},
        "created": 1660000000000,
        "isFavorite": True,
    },
    Organization: {"org": {"identifier": "o", "name": "O", "tags": {}}, "updated": 7, "harness_managed": False},
    Thing: {
        "name": "n",
        "weight": 1.5,
        "count": 3,
        "good": True,
        "colour": "mauve",
        "part": {"name": "p", "weight": 2},
        "parts": [{"name": "q"}],
        "colours": ["red", "mauve"],
        "labels": {"a": 0.1},
        "inner": [{"name": "i", "weight": 0}],
    },
    dict: {"a": None, "b": [1, 2.5, {"c": "d"}]},
}


def describe(value: Any) -> object:
    """Say all that there is to a value: types, spelling of numbers, order of members."""
    if attrs.has(type(value)):
        return type(value), [(field.name, describe(getattr(value, field.name))) for field in attrs.fields(type(value))]
    if isinstance(value, (list, tuple)):
        return type(value), [describe(member) for member in value]
    return type(value), repr(value)  # of JSON's own types, which `repr` tells apart


def outcome(decode: Callable[[bytes, type], list[Any]], body: bytes, cls: type) -> object:
    """Decode, and describe the rows or the error."""
    try:
        return [describe(row) for row in decode(body, cls)]
    except (ValueError, DecodeError) as error:
        return type(error), str(error), getattr(error, "path", None)


def decode_surely(body: bytes, cls: type) -> list[Any]:
    """Decode without the C decoder: what counts."""

    def decode() -> list[Any]:  # as deep in the stack as the other way: how deep JSON may be nested depends on that
        return structure_rows(parse_json(body), cls)

    return decode()


def assert_same(body: bytes, cls: type) -> None:
    assert outcome(decode_rows, body, cls) == outcome(decode_surely, body, cls)


# -- both ways give the same -----------------------------------------------------------------------------------------

NUMBERS = [
    *(b"0 -0 7 -7 1.0 -0.0 0.1 1e3 1E+3 1e-3 0e0 1.5e300 1e400 -1e400 1e-400 5e-324 2.5e-324".split()),
    *(b"1.7976931348623157e308 1.7976931348623159e308 -19603975977125825612 -18446744073709551616".split()),
    *(b"9007199254740993 9007199254740993.0 18446744073709551615 18446744073709551616 -9223372036854775809".split()),
    *(b"123456789012345678901234567890 0.30000000000000004443 1e22 1e23 8.5e22 1e99999999999 0e99999999999".split()),
    *(b"01 -01 1. .5 +1 - -a 1e 1e+ 0x1 1_000 NaN Infinity -Infinity nan 1.e5 1..2 --1".split()),
    b"9" * 4300,
    b"9" * 4301,
    b"-" + b"9" * 5000,
    b"0." + b"1" * 400,
    b"1" * 310 + b".5",
]
TEXTS = [
    b'""',
    b'"a"',
    b'"red"',
    b'"success"',
    b'"\xc3\xbc"',
    b'"\\u00fc"',
    b'"\\ud83d\\ude80"',
    b'"\xf0\x9f\x9a\x80"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\ud800x"',
    b'"\\ud800\\n"',
    b'"\\u0000"',
    b'"\\/\\b\\f\\n\\r\\t\\"\\\\"',
    b'"\xff"',
    b'"\xc3"',
    b'"\xed\xa0\x80"',
    b'"\xc0\xaf"',
    b'"\xf4\x90\x80\x80"',
    b'"\n"',
    b'"\t"',
    b'"\x00"',
    b'"\x7f"',
    b'"\\q"',
    b'"\\u12"',
    b'"\\u12g4"',
    b'"\\u 123"',
    b'"\\u+123"',
    b'"\\U0041"',
    b'"\\x41"',
    b"'a'",
    b'"a',
    b'"\\',
    b"a",
]
OTHERS = [
    *(b"null true false nul True tru nulll none undefined [] {} [1] [[]] [1,] [,] {,} [1 2] [} {] [ ] } { , :".split()),
    b'{"a":1}',
    b'{"a":1,}',
    b'{"a"}',
    b'{"a":}',
    b"{a:1}",
    b"{1:1}",
    b'{"a":1 "b":2}',
    b'{"a":1,"a":2}',
    b'{"\xff":1}',
    b'{"\\ud800":1}',
    b'{"a":{"b":[{"c":null}]}}',
    b"/**/1",
    b"",
    *(b"[" * depth + b"]" * depth for depth in (50, 598, 599, 600, 601, 2_000, 100_000)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (50, 599, 600, 2_000, 100_000)),
]
VALUES = NUMBERS + TEXTS + OTHERS
KEYS = [
    *(f'"{name}"'.encode() for row in ROWS.values() for name in row),
    *(b'"identifier" "note" "x" "" "Created" "is_favorite" "_x" "cre\\u0061ted" "\\u006ferg" "\xff" "\\ud800"'.split()),
    *(b'"a\nb" "\\q" created 1 null'.split()),
]


def members(row: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(f'"{name}"'.encode(), json.dumps(value).encode()) for name, value in row.items()]


def text_of(pairs: list[tuple[bytes, bytes]], space: bytes = b"") -> bytes:
    return b"{" + space + b",".join(key + space + b":" + space + value for key, value in pairs) + space + b"}"


@with_decoder
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value[:24]))
def test_odd_values(value: bytes) -> None:
    """Whatever stands for a member, known or not, or for a row or a body, is taken or refused by both ways alike."""
    for cls in MODELS:
        pairs = members(ROWS[cls])
        for number, (name, _) in enumerate(pairs):
            assert_same(b"[" + text_of([*pairs[:number], (name, value), *pairs[number + 1 :]]) + b"]", cls)
        for first, last in ((pairs[0][0], pairs[-1][0]), (pairs[-1][0], b'"x"')):  # twice in a row, and unknown
            assert_same(b"[" + text_of([(first, value), *pairs]) + b"]", cls)
            assert_same(b"[" + text_of([*pairs, (last, value)]) + b"]", cls)
        row = text_of(pairs)
        for body in (
            b"[" + value + b"]",
            b"[" + row + b"," + value + b"]",
            value,
            value + b"[]",
            b"[" + row + b"]" + value,
        ):
            assert_same(body, cls)


def nested(depth: int) -> bytes:
    return b"[" + text_of([*members(ROWS[Execution]), (b'"x"', b"[" * depth + b"]" * depth)]) + b"]"


@with_decoder
def test_depth() -> None:
    """About the depth that Python's parser can follow, wherever that is, members nobody asked for are refused alike."""
    followed, too_deep = 1, 200_000
    while too_deep - followed > 1:
        depth = (followed + too_deep) // 2
        if isinstance(outcome(decode_surely, nested(depth), Execution), list):
            followed = depth
        else:
            too_deep = depth
    for depth in range(max(followed - 20, 1), followed + 20):
        assert_same(nested(depth), Execution)


@with_decoder
@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_odd_names(key: bytes) -> None:
    """Whatever a member is called, both ways read or refuse it alike."""
    for cls in MODELS:
        pairs = members(ROWS[cls])
        for number, (_, value) in enumerate(pairs):
            assert_same(b"[" + text_of([*pairs, (key, value)]) + b"]", cls)
            assert_same(b"[" + text_of([*pairs[:number], (key, value), *pairs[number + 1 :]]) + b"]", cls)


@with_decoder
@pytest.mark.parametrize(
    "space", [b" ", b"\n", b"\r\n", b"\t", b"\x0b", b"\x0c", b"\xc2\xa0", b"\x00", b"\xef\xbb\xbf"], ids=repr
)
def test_space(space: bytes) -> None:
    """Space is allowed where JSON allows it, and no other, by both ways; a byte order mark in front."""
    for cls in MODELS:
        row = text_of(members(ROWS[cls]))
        assert_same(b"[" + text_of(members(ROWS[cls]), space) + b"]", cls)
        for body in (space + b"[%s]", b"[" + space + b"%s]", b"[%s" + space + b"]", b"[%s]" + space):
            assert_same(body % row, cls)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("list_*/*.json")), ids=lambda path: "-".join(path.parts[-2:]))
def test_recorded_lists(path: Path) -> None:
    """Lists as recorded decode alike."""
    names: dict[str, type] = {
        "list_executions": Execution,
        "list_organizations": Organization,
        "list_projects": Project,
    }
    assert_same(path.read_bytes(), names[path.parent.name])
    assert_same(path.read_bytes(), dict)


WORDS = st.text(max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
TEXT_OF_JSON = st.builds(
    lambda value, ascii_: json.dumps(value, ensure_ascii=ascii_).encode("utf-8", "surrogatepass"), JSON, st.booleans()
)
FLOAT_TEXTS = st.from_regex(rb"\A-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?\Z")
ANY_VALUE = TEXT_OF_JSON | FLOAT_TEXTS | st.sampled_from([value for value in VALUES if len(value) < 5_000])
ANY_KEY = st.sampled_from(KEYS) | WORDS.map(lambda word: json.dumps(word).encode())
PLACE = st.integers(0, 10_000)


@st.composite
def rows_of(draw: st.DrawFn, cls: type) -> bytes:
    """Make the text of a row, with members changed, left out, put twice and unknown."""
    pairs = members(ROWS[cls])
    for _ in range(draw(st.integers(0, 3))):
        place = draw(PLACE) % (len(pairs) + 1)
        change = draw(st.sampled_from(["replace", "remove", "insert", "again", "inside"]))
        if change == "insert" or place == len(pairs):
            pairs.insert(place, (draw(ANY_KEY), draw(ANY_VALUE)))
        elif change == "again":
            pairs.insert(draw(PLACE) % (len(pairs) + 1), (pairs[place][0], draw(ANY_VALUE)))
        elif change == "replace":
            pairs[place] = (pairs[place][0], draw(ANY_VALUE))
        elif change == "remove":
            del pairs[place]
        else:  # in a member, where there are objects in it
            name, value = pairs[place]
            pairs[place] = (name, value.replace(b"{", b"{" + draw(ANY_KEY) + b":" + draw(ANY_VALUE) + b",", 1))
    return text_of(pairs, draw(st.sampled_from([b"", b" ", b"\n"])))


def mutate(body: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, gone, new in changes:
        start = place % (len(body) + 1)
        body = body[:start] + new + body[start + gone :]
    return body


def bodies(cls: type) -> st.SearchStrategy[bytes]:
    """Make bodies: right ones, odd ones, and those with bytes changed."""
    rows = st.lists(rows_of(cls), max_size=3).map(lambda rows: b"[" + b",".join(rows) + b"]")
    bits = st.binary(max_size=2) | st.sampled_from([bytes([byte]) for byte in b'"\\{}[],:0.-eE \n\xff'])
    changed = st.builds(mutate, rows, st.lists(st.tuples(PLACE, st.integers(0, 3), bits), min_size=1, max_size=3))
    return rows | changed


BODIES = st.sampled_from(MODELS).flatmap(lambda cls: st.tuples(bodies(cls), st.just(cls)))


@with_decoder
@settings(max_examples=250, deadline=None)
@given(BODIES)
def test_any_body(case: tuple[bytes, type]) -> None:
    """Bodies with anything wrong or right in them decode alike: the same rows, or the same error with the same path."""
    assert_same(*case)


BYTES = st.binary(max_size=60) | st.text('[]{}",:0123456789.eE-+ \\untrf', max_size=30).map(str.encode)


@with_decoder
@settings(max_examples=200, deadline=None)
@given(st.tuples(BYTES, st.sampled_from(MODELS)))
def test_any_bytes(case: tuple[bytes, type]) -> None:
    """So do bytes that nobody would take for a body."""
    assert_same(*case)


# -- which way is taken ----------------------------------------------------------------------------------------------


@pytest.fixture
def no_sure_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a body goes the sure way."""

    def refuse(body: bytes) -> object:
        raise AssertionError(body)

    monkeypatch.setattr(decoding, "parse_json", refuse)


def page(cls: type) -> bytes:
    return b"[" + text_of(members(ROWS[cls])) + b"]"


@with_decoder
@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.usefixtures("no_sure_way")
def test_the_fast_way_is_taken(cls: type) -> None:
    """The library's models, users' classes and plain dicts are decoded by the C decoder, in bodies of any language."""
    assert len(decode_rows(page(cls), cls)) == 1
    assert decode_rows(b"[]", cls) == []
    if cls is dict:
        assert decode_rows('[{"ü": "漢"}]'.encode(), dict) == [{"ü": "漢"}]
    elif cls is Execution:
        (row,) = decode_rows(page(cls).replace(b"platform", "plätze 漢".encode()), Execution)
        assert row.project == "plätze 漢"


@with_decoder
@pytest.mark.usefixtures("no_sure_way")
def test_a_full_page_goes_the_fast_way() -> None:
    """A page of 100 rows, each with objects and arrays that nobody asked for, is not taken for nested too deep."""
    rows = [{**ROWS[Execution], "pipeline_stage_id": str(number), "x": {"y": [[], {}]}} for number in range(100)]
    made = decode_rows(json.dumps(rows).encode(), Execution)
    assert [row.pipeline_stage_id for row in made] == [str(number) for number in range(100)]


@with_decoder
def test_words_from_the_fast_way() -> None:
    """Known words come as their members, unknown ones as words of the enum, which does not come to know them."""
    rows = [{**ROWS[Execution], "status": word} for word in ("success", "running", "", "zürich", "running")]
    made = [row.status for row in decode_rows(json.dumps(rows).encode(), Execution)]
    assert made == ["success", "running", "", "zürich", "running"]
    assert made[0] is ExecutionStatus.SUCCESS
    assert {type(word) for word in made} == {ExecutionStatus}
    assert [word.is_known for word in made] == [True, False, False, False, False]
    assert list(ExecutionStatus) == ["none", "success", "failure"]
    for word in made:
        assert (pickle.loads(pickle.dumps(word)), hash(word)) == (word, hash(str(word)))  # noqa: S301


@pytest.mark.parametrize("decode", [decode_rows, decode_surely])
def test_decoded_rows_are_values(decode: Callable[[bytes, type], list[Execution]]) -> None:
    """However a row was decoded, it is immutable, equal to one made by hand, and can be copied in every way."""
    (row,) = decode(page(Execution), Execution)
    made = Execution(**{**ROWS[Execution], "status": ExecutionStatus.SUCCESS})
    assert type(row) is Execution
    for other in (made, copy.copy(row), copy.deepcopy(row), attrs.evolve(row), pickle.loads(pickle.dumps(row))):  # noqa: S301
        assert (other, hash(other), repr(other)) == (row, hash(row), repr(row))
    for name in (*ROWS[Execution], "anything"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(row, name, "x")
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(row, name)
    assert not hasattr(row, "__dict__")


@frozen
class WithDefault:
    """A text that null does not stand for."""

    name: str | None = "x"


@frozen
class WithoutDefault:
    """A member that may be null says its type, and yet null counts as left out."""

    name: str | None


def shout(text: str) -> str:
    return text.upper()


@frozen
class Converted:
    """A class that does more than hold what came."""

    name: str = attrs.field(default="", converter=shout)


@frozen
class Checked:
    """A class that may refuse."""

    name: str = attrs.field(default="", validator=attrs.validators.max_len(3))


@frozen
class Finished:
    """A class that computes."""

    name: str = ""
    length: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.name))


@frozen
class Guessing:
    """A class that has members for whatever is asked."""

    name: str = "x"

    def __getattr__(self, name: str) -> str:
        return name


@attrs.define(slots=False)
class Loose:
    """A class without slots."""

    name: str = "x"


@pytest.mark.parametrize("cls", [WithDefault, WithoutDefault, Converted, Checked, Finished, Guessing, Loose])
@pytest.mark.parametrize(
    "row", [{}, {"name": "a"}, {"name": None}, {"name": 7}, {"name": "long"}, {"length": 7}], ids=str
)
def test_classes_with_ways_of_their_own(cls: type, row: dict[str, Any]) -> None:
    """Classes that the C decoder would make otherwise are made as the converter makes them."""
    body = json.dumps([row]).encode()
    assert_same(body, cls)
    if row in ({}, {"name": "a"}) and cls is not WithoutDefault:
        assert decode_rows(body, cls) == [cls(**row)]


def test_what_the_converter_is_taught_counts() -> None:
    """A hook that somebody gives the converter for a class is used, before and after its first rows."""

    @frozen
    class Taught:
        name: str

    assert decode_rows(b'[{"name": "a"}]', Taught) == [Taught("a")]
    converter.register_structure_hook(Taught, lambda value, _: Taught(value["name"] * 2))
    assert decode_rows(b'[{"name": "a"}]', Taught) == [Taught("aa")]


@with_decoder
def test_errors_hold_no_body() -> None:
    """An error of the sure way does not drag the C decoder's along."""
    with pytest.raises(DecodeError) as caught:
        decode_rows(b"[{}]", Execution)
    assert caught.value.__context__ is caught.value.__cause__
    assert "msgspec" not in type(caught.value.__cause__).__module__


# -- without the C decoder -------------------------------------------------------------------------------------------


@pytest.fixture
def fresh() -> Iterator[None]:
    """Look for the C decoder anew, and forget again what was found."""

    def forget() -> None:
        decoding._find_decoder.cache_clear()
        decoding._decoders.clear()

    forget()
    yield
    forget()


class Broken:
    """A module that cannot be imported, as a wheel for another processor cannot."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "msgspec":
            raise OSError("invalid ELF header")


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("state", ["absent", "broken", "old"])
def test_without_a_decoder(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """Where the C decoder is missing, broken or too old, rows are made without it, and nobody hears of it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "msgspec"]:
        monkeypatch.delitem(sys.modules, name)
    if state == "absent":
        monkeypatch.setitem(sys.modules, "msgspec", None)
    elif state == "broken":
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    else:
        pytest.importorskip("msgspec")
        monkeypatch.setattr("msgspec.__version__", "0.18.6")
    assert decoding._find_decoder() is None
    for cls in MODELS:
        assert_same(page(cls), cls)
        assert len(decode_rows(page(cls), cls)) == 1


@pytest.fixture(params=[pytest.param("fast", marks=with_decoder), "sure"])
def way(request: pytest.FixtureRequest, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode with the C decoder, and without it."""
    if request.param == "sure":
        monkeypatch.setattr(decoding, "_find_decoder", lambda: None)


@pytest.mark.usefixtures("way")
async def test_lists_over_http(fake: FakeHarness, client: HarnessClient) -> None:
    """Lists come as they are stored, page by page, in either way."""
    stored = [(row["pipeline_execution_id"], row["status"]) for row in fake.executions("default", "payments")]
    rows = await client.executions.list("default", "payments", limit=2).collect()
    assert sorted((row.pipeline_execution_id, row.status) for row in rows) == sorted(stored)
    projects = await client.projects.list("default").collect()
    assert [str(project.ref) for project in projects] == ["default/payments", "default/billing"]


@pytest.mark.usefixtures("way")
async def test_errors_over_http(fake: FakeHarness, client: HarnessClient) -> None:
    """A row that does not fit is a `DecodeError` with its path, sent once; what is no JSON is asked for again."""
    good, bad = json.dumps(ROWS[Execution]), json.dumps({**ROWS[Execution], "created": 1.0})
    fake.faults.add(Body(f"[{good},{bad}]".encode()), times=1)
    with pytest.raises(DecodeError, match=r"expected a whole number, not a number at \$\[1\]\.created") as caught:
        await client.executions.list("default", "payments").collect()
    assert (caught.value.path, len(caught.value.attempts)) == ("$[1].created", 1)
    fake.faults.add(Body(b"[" + text_of([*members(ROWS[Execution]), (b'"x"', b'"\xff"')]) + b"]"), times=1)
    assert len(await client.executions.list("default", "payments").collect()) == 3
    assert len(fake.requests) == 3


_ALONE = """
import asyncio, sys
sys.modules["msgspec"] = None
from harness_async import Execution, HarnessClient, NotFoundError
from harness_async.testing import Body, FakeHarness

async def main() -> None:
    async with FakeHarness.seeded(projects=2, executions=30, seed=1) as fake:
        async with HarnessClient(fake.api_key, fake.account_id, base_url=fake.url) as harness:
            project = await harness.projects.list_all().first()
            rows = await harness.executions.list(project.org, project.identifier, limit=7).collect()
            assert rows and {type(row) for row in rows} == {Execution}
            print(len(rows))

asyncio.run(main())
"""


def test_the_library_works_alone() -> None:
    """Without msgspec the client lists projects and executions."""
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", _ALONE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_the_decoder_is_imported_when_rows_come() -> None:
    """Importing the library and making a client does not import the C decoder."""
    code = "import sys, harness_async as h; h.HarnessClient('pat.a.b.c'); assert 'msgspec' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)  # noqa: S603 - this interpreter

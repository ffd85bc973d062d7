"""Sending a call until it is answered: pace, send, translate, decide, wait.

The order of one attempt: wait for a place among the requests in flight, then for the pace, send, read the answer
whole, give back place and connection, decide, and only then sleep. The deadline of the call spans all of it; a wait
that cannot fit before the deadline fails at once instead of being waited for.

What happens after a failure is in the table of `retry`. Where a request may have taken effect and must not be sent
again unseen, the error says so (`ambiguous`) and the resource decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from time import time as wall_time
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import define, evolve, field
from yarl import URL

from harness_async import events
from harness_async.bulk.models import LimitedBy
from harness_async.config import Credentials, RetryPolicy, Timeouts
from harness_async.errors import (
    Attempt,
    DecodeError,
    HarnessError,
    RequestError,
    UnexpectedResponseError,
)
from harness_async.http.call import Trip
from harness_async.http.pacer import RatePacer
from harness_async.http.protocol import ServerClock, looks_like_html, parse_retry_after
from harness_async.http.rate_limit import Slot
from harness_async.http.retry import Failure, Trouble, Verdict, may_have_worked
from harness_async.http.transport import Broken, Reply, Request, Transport
from harness_async.stats import Counters

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("harness_async")

_MAX_REDIRECTS = 5

_SUCCESS = range(200, 300)
_REDIRECT = range(300, 400)
_TOO_MANY = 429
_SERVER_ERROR = 500

_FAILURES = frozenset({Trouble.NOT_SENT, Trouble.LOST, Trouble.READ_TIMEOUT, Trouble.CUT})
"""Troubles that the service or the way to it is to blame for."""


Decode: TypeAlias = Callable[[Reply], T]
"""Makes the value of a successful reply; a plain `ValueError` means that the body is not JSON."""


@define(eq=False, repr=False)
class Answer(Generic[T]):
    """The value of a call, and what it took."""

    value: T
    reply: Reply
    attempts: Sequence[Attempt]


@define(eq=False, repr=False)
class Sender:
    """Sends calls over one transport, at one pace. Safe for any number of tasks of one loop."""

    transport: Transport
    pacer: RatePacer
    credentials: Credentials
    timeouts: Timeouts
    retry: RetryPolicy
    on_event: Callable[[events.Event], None] | None
    max_in_flight: int
    places: asyncio.Semaphore
    """Places for requests in flight."""

    counters: Counters = field(factory=Counters)
    clock: ServerClock = field(factory=ServerClock)
    _rng: random.Random = field(factory=random.Random, repr=False)

    def with_options(
        self,
        timeouts: Timeouts | None,
        retry: RetryPolicy | None,
        on_event: Callable[[events.Event], None] | None,
    ) -> Sender:
        """Make a sender with other options over the same connections, pacer, key and counters."""
        return evolve(
            self,
            timeouts=timeouts or self.timeouts,
            retry=retry or self.retry,
            on_event=on_event or self.on_event,
        )

    def deadline(self) -> float | None:
        """Give the loop time at which a call that begins now must be over."""
        limit = self.timeouts.deadline
        return None if limit is None else asyncio.get_running_loop().time() + limit

    def bottleneck(self) -> LimitedBy:
        """Say what holds requests back at this moment."""
        throttle = self.pacer.throttle
        if not throttle.is_open or throttle.open_at > asyncio.get_running_loop().time():
            return "cooldown"
        return "rate limit" if self.pacer.waiting else "latency"

    def rate(self) -> float | None:
        """Say how many requests a second may leave at this moment; None where we do not know of a limit."""
        rate = self.pacer.throttle.rate(asyncio.get_running_loop().time())
        return None if rate == float("inf") else rate

    async def send(self, request: Request, decode: Decode[T], *, deadline: float | None = None) -> Answer[T]:
        """Send a request until it is answered, or until there is no point in sending it again.

        `deadline` is a loop time; without one, the time-outs in force say it.

        Raises:
            HarnessError: One of the tree in `errors`, with all attempts on it.
            RuntimeError: The client is closed, or belongs to another loop.
        """
        self.transport.open()
        deadline = self.deadline() if deadline is None else deadline
        trip = Trip(request, self.retry, self._rng, deadline, self.credentials.api_key)
        timeout = asyncio.timeout_at(deadline)
        try:
            async with timeout:
                while (answer := await self._try(trip, decode)) is None:
                    if trip.backoff:
                        await asyncio.sleep(trip.backoff)
                        self.counters.backoff += trip.backoff
                return answer
        except TimeoutError:
            if not timeout.expired():
                raise
        trip.doubtful = trip.doubtful or trip.sent is not None
        trip.note(asyncio.get_running_loop().time(), error="cut short by the deadline")
        late = trip.late("the deadline of the call passed")
        late.ambiguous = trip.doubtful and not trip.reads
        raise late

    async def _try(self, trip: Trip, decode: Decode[T]) -> Answer[T] | None:
        """Make one attempt: the answer, None to go on, or the error raised."""
        reply: Reply | None = None
        broken: Broken | None = None
        try:
            reply = await self._exchange(trip)
        except Broken as caught:
            broken = caught
        # Behind the `except`: what is raised from here on must not carry what the server sent in its context.
        if reply is None:
            assert broken is not None  # noqa: S101 - for the type checker
            self._lost(trip, broken)
            return None
        now = asyncio.get_running_loop().time()
        self._answered(trip, reply, now)
        if reply.status in _SUCCESS:
            return self._take(trip, decode, reply, now)
        if reply.status in _REDIRECT:
            trip.note(now, status=reply.status, error="redirected")
            self._redirect(trip, reply)
            return None
        error, temporary = trip.status_error(reply, now)
        self._decide(trip, Failure(Trouble.STATUS, reply.status, temporary, error.retry_after), error)
        return None

    def _lost(self, trip: Trip, broken: Broken) -> None:
        """Decide about an attempt that brought no answer."""
        text = trip.clean_text(str(broken))
        trip.note(asyncio.get_running_loop().time(), error=text)
        if logger.isEnabledFor(logging.DEBUG):
            self._log(trip, None, text)
        error = trip.transport_error(broken, text)
        self._decide(trip, Failure(broken.trouble), error, broken.__cause__)

    async def _exchange(self, trip: Trip) -> Reply:
        """Wait for a place and the pace, send, read; place and connection are free again when it returns."""
        time, counters = asyncio.get_running_loop().time, self.counters
        trip.begin(time())
        async with self.places:
            queued = time()
            counters.queued += queued - trip.asked
            trip.slot = self.pacer.take_now() or await self._acquire(trip)
            sent = time()
            counters.paced += sent - queued
            self._sent(trip, sent)
            try:
                reply = await self.transport.exchange(trip.request, self.timeouts)
            except BaseException as error:
                if isinstance(error, Broken) and self.transport.closed:
                    self.pacer.abandoned(trip.slot)
                    raise RuntimeError("This HarnessClient was closed during a request") from None
                if isinstance(error, Broken) and error.trouble in _FAILURES:
                    self._settle(trip, None)
                else:
                    self.pacer.abandoned(trip.slot)
                raise
            finally:
                counters.network += time() - (trip.sent or time())
            self._settle(trip, reply)
            self.clock.learn(reply.headers.get("Date"), trip.started, wall_time())
            return reply

    async def _acquire(self, trip: Trip) -> Slot:
        """Wait for the pace, unless it would take too long."""
        wait = self.pacer.expected_wait()
        self._check_fits(trip, wait, "the pace, or a pause the server asked for,")
        return await self.pacer.acquire()

    def _check_fits(self, trip: Trip, wait: float, what: str, cause: HarnessError | None = None) -> None:
        """Refuse a wait that would end after the deadline."""
        if trip.deadline is not None and asyncio.get_running_loop().time() + wait >= trip.deadline:
            raise trip.late(f"{what} would take {wait:.1f} s, beyond the deadline of the call") from cause

    def _settle(self, trip: Trip, reply: Reply | None) -> None:
        """Tell the pacer what became of a request, and the observer what became of the gate."""
        slot = trip.slot
        if slot is None:
            return
        throttle = self.pacer.throttle
        was_open, epoch = throttle.is_open, throttle.epoch
        if reply is not None and reply.status in _SUCCESS and was_open:
            self.pacer.accepted(slot)  # which opens or closes nothing
            return
        if reply is None or (reply.status >= _SERVER_ERROR):
            self.pacer.failed(slot)
        elif reply.status == _TOO_MANY:
            self.counters.throttled += 1
            self.pacer.refused(slot, parse_retry_after(reply.headers, wall_time()))
        else:
            self.pacer.accepted(slot)
        now = asyncio.get_running_loop().time()
        if throttle.epoch != epoch:
            reason = "refused by rate" if reply is not None and reply.status == _TOO_MANY else "outage"
            wait = max(0.0, throttle.open_at - now)
            logger.info("gate closed for %.1f s: %s", wait, reason)
            self._emit(events.GateClosed(reason=reason, wait=wait))
        elif throttle.is_open and not was_open:
            rate = throttle.rate(now)
            logger.info("gate open, %.1f requests per second", rate)
            self._emit(events.GateOpened(rate=None if rate == float("inf") else rate))

    def _take(self, trip: Trip, decode: Decode[T], reply: Reply, began: float) -> Answer[T] | None:
        """Make the value of a successful reply."""
        problem: RequestError | None = None
        failure: Failure | None = None
        value: Any = None
        try:
            value = decode(reply)
        except DecodeError as error:
            problem = trip.decode_error(reply, error)
        except ValueError as error:
            html = looks_like_html(reply.headers, reply.body)
            what = "an HTML page: a proxy or a sign-in page answered" if html else f"not JSON ({error})"
            problem = trip.unexpected(reply, what)
            failure = Failure(Trouble.HTML if html else Trouble.NOT_JSON)
        finally:
            self.counters.decoding += asyncio.get_running_loop().time() - began
        # Behind the `except`, so that no error hangs on to a body by way of its context.
        trip.note(began, status=reply.status, error=None if problem is None else str(problem))
        if problem is None:
            return Answer(value, reply, trip.attempts)
        problem.attempts = tuple(trip.attempts)
        if failure is None:
            problem.ambiguous = not trip.request.repeatable
            raise problem
        self._decide(trip, failure, problem)
        return None

    def _decide(self, trip: Trip, failure: Failure, error: RequestError, cause: BaseException | None = None) -> None:
        """Plan the next attempt, or raise the error."""
        decision = trip.course.decide(failure)
        if decision.verdict in {Verdict.FAIL, Verdict.AMBIGUOUS}:
            once = not trip.request.repeatable and may_have_worked(failure)
            error.ambiguous = decision.verdict is Verdict.AMBIGUOUS or once or (trip.doubtful and not trip.reads)
            raise error from cause
        trip.doubtful = trip.doubtful or may_have_worked(failure)
        self._check_fits(trip, decision.wait, "the wait before the next attempt", error)
        trip.backoff = decision.wait
        self.counters.retries += 1
        logger.debug("%s %s: retry in %.2f s: %s", trip.request.method, trip.url_text, decision.wait, error)
        self._emit(
            events.RetryPlanned(
                method=trip.request.method,
                url=trip.url_text,
                attempt=len(trip.attempts),
                reason=str(error),
                wait=decision.wait,
            )
        )

    def _redirect(self, trip: Trip, reply: Reply) -> None:
        """Go on at the target of a redirect, if it is ours to go to."""
        request = trip.request
        location = reply.headers.get("Location", "")
        try:
            target = request.url.join(URL(location))
            elsewhere = target.origin() != request.url.origin()
        except ValueError:
            target, elsewhere = request.url, True
        repeats_as_is = request.method in {"GET", "HEAD"} or reply.status in {307, 308}
        problem = (
            "without a target"
            if not location or reply.status == 304  # noqa: PLR2004
            else "to elsewhere; the key goes to no other host, so check base_url"
            if elsewhere
            else "that would change the request"
            if not repeats_as_is
            else "in circles"
            if trip.redirects >= _MAX_REDIRECTS
            else None
        )
        if problem:
            raise UnexpectedResponseError(
                f"The server answered with a redirect {problem} "
                f"({request.method} {trip.url_text}, status {reply.status}, location {trip.clean_text(location)!r})",
                status=reply.status,
                body=trip.clean(reply.body),
                **trip.context(),
            )
        trip.redirects += 1
        trip.backoff = 0.0
        trip.request = evolve(request, url=target.with_fragment(None))

    def count_page(self, request: Request, number: int, rows: int, total: int | None) -> None:
        """Count a page that was read."""
        self.counters.pages += 1
        self.counters.rows += rows
        if self.on_event is not None:
            self._emit(events.PageRead(url=str(request.url), page=number, rows=rows, total_items=total))

    # -- seeing inside -------------------------------------------------------------------------------------------

    def _sent(self, trip: Trip, now: float) -> None:
        trip.leave(now)
        self.counters.requests += 1
        if self.on_event is not None:
            attempt = len(trip.attempts) + 1
            self._emit(events.RequestSent(method=trip.request.method, url=trip.url_text, attempt=attempt))

    def _answered(self, trip: Trip, reply: Reply, now: float) -> None:
        self.counters.bytes_received += len(reply.body)
        if logger.isEnabledFor(logging.DEBUG):
            self._log(trip, reply, "")
        if self.on_event is not None:
            self._emit(
                events.ResponseReceived(
                    method=trip.request.method,
                    url=trip.url_text,
                    attempt=len(trip.attempts) + 1,
                    status=reply.status,
                    elapsed=now - (trip.sent or now),
                    size_bytes=len(reply.body),
                    correlation_id=_correlation(trip, reply),
                )
            )

    def _log(self, trip: Trip, reply: Reply | None, error: str) -> None:
        correlation = None if reply is None else _correlation(trip, reply)
        logger.debug(
            "%s %s: %s, %.3f s, attempt %d%s",
            trip.request.method,
            trip.clean_text(trip.request.url.raw_path_qs),
            error if reply is None else reply.status,
            asyncio.get_running_loop().time() - trip.sent if trip.sent is not None else trip.attempts[-1].elapsed,
            len(trip.attempts) + (reply is not None),
            f", correlation id {correlation}" if correlation else "",
        )

    def _emit(self, event: events.Event) -> None:
        """Tell the observer, if there is one; what it raises is its own affair."""
        if self.on_event is None:
            return
        try:
            self.on_event(event)
        except Exception:
            logger.exception("on_event raised; the call goes on")


def _correlation(trip: Trip, reply: Reply) -> str | None:
    text = reply.headers.get("X-Request-Id")
    return None if text is None else trip.clean_text(text)

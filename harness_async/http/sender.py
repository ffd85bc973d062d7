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
from harness_async.http.call import Call
from harness_async.http.pacer import RatePacer
from harness_async.http.protocol import ServerClock, looks_like_html, parse_retry_after
from harness_async.http.rate_limit import Permit
from harness_async.http.retry import Failure, FailureKind, RetryAction, may_have_taken_effect
from harness_async.http.transport import RawResponse, Request, Transport, TransportFailure
from harness_async.stats import Counters

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("harness_async")

_MAX_REDIRECTS = 5

_SUCCESS = range(200, 300)
_REDIRECT = range(300, 400)
_TOO_MANY = 429
_SERVER_ERROR = 500

_FAILURES = frozenset({FailureKind.NOT_SENT, FailureKind.LOST, FailureKind.READ_TIMEOUT, FailureKind.CUT})
"""Troubles that the service or the way to it is to blame for."""


Decode: TypeAlias = Callable[[RawResponse], T]
"""Makes the value of a successful reply; a plain `ValueError` means that the body is not JSON."""


@define(eq=False, repr=False)
class Result(Generic[T]):
    """The value of a call, and what it took."""

    value: T
    reply: RawResponse
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
        limiter = self.pacer.limiter
        if not limiter.is_open or limiter.open_at > asyncio.get_running_loop().time():
            return "cooldown"
        return "rate limit" if self.pacer.waiting else "latency"

    def rate(self) -> float | None:
        """Say how many requests a second may leave at this moment; None where we do not know of a limit."""
        rate = self.pacer.limiter.rate(asyncio.get_running_loop().time())
        return None if rate == float("inf") else rate

    async def send(self, request: Request, decode: Decode[T], *, deadline: float | None = None) -> Result[T]:
        """Send a request until it is answered, or until there is no point in sending it again.

        `deadline` is a loop time; without one, the time-outs in force say it.

        Raises:
            HarnessError: One of the tree in `errors`, with all attempts on it.
            RuntimeError: The client is closed, or belongs to another loop.
        """
        self.transport.open()
        deadline = self.deadline() if deadline is None else deadline
        call = Call(request, self.retry, self._rng, deadline, self.credentials.api_key)
        timeout = asyncio.timeout_at(deadline)
        try:
            async with timeout:
                while (answer := await self._try(call, decode)) is None:
                    if call.backoff:
                        await asyncio.sleep(call.backoff)
                        self.counters.backoff += call.backoff
                return answer
        except TimeoutError:
            if not timeout.expired():
                raise
        call.doubtful = call.doubtful or call.sent is not None
        call.record_attempt(asyncio.get_running_loop().time(), error="cut short by the deadline")
        deadline_error = call.deadline_error("the deadline of the call passed")
        deadline_error.ambiguous = call.doubtful and not call.reads
        raise deadline_error

    async def _try(self, call: Call, decode: Decode[T]) -> Result[T] | None:
        """Make one attempt: the answer, None to go on, or the error raised."""
        reply: RawResponse | None = None
        broken: TransportFailure | None = None
        try:
            reply = await self._exchange(call)
        except TransportFailure as caught:
            broken = caught
        # Behind the `except`: what is raised from here on must not carry what the server sent in its context.
        if reply is None:
            assert broken is not None  # noqa: S101 - for the type checker
            self._lost(call, broken)
            return None
        now = asyncio.get_running_loop().time()
        self._answered(call, reply, now)
        if reply.status in _SUCCESS:
            return self._take(call, decode, reply, now)
        if reply.status in _REDIRECT:
            call.record_attempt(now, status=reply.status, error="redirected")
            self._redirect(call, reply)
            return None
        error, temporary = call.status_error(reply, now)
        self._decide(call, Failure(FailureKind.STATUS, reply.status, temporary, error.retry_after), error)
        return None

    def _lost(self, call: Call, broken: TransportFailure) -> None:
        """Decide about an attempt that brought no answer."""
        text = call.redact_text(str(broken))
        call.record_attempt(asyncio.get_running_loop().time(), error=text)
        if logger.isEnabledFor(logging.DEBUG):
            self._log(call, None, text)
        error = call.transport_error(broken, text)
        self._decide(call, Failure(broken.kind), error, broken.__cause__)

    async def _exchange(self, call: Call) -> RawResponse:
        """Wait for a place and the pace, send, read; place and connection are free again when it returns."""
        time, counters = asyncio.get_running_loop().time, self.counters
        call.start_attempt(time())
        async with self.places:
            queued = time()
            counters.queued += queued - call.asked
            call.slot = self.pacer.try_acquire() or await self._acquire(call)
            sent = time()
            counters.paced += sent - queued
            self._sent(call, sent)
            try:
                reply = await self.transport.send(call.request, self.timeouts)
            except BaseException as error:
                if isinstance(error, TransportFailure) and self.transport.closed:
                    self.pacer.release(call.slot)
                    raise RuntimeError("This HarnessClient was closed during a request") from None
                if isinstance(error, TransportFailure) and error.kind in _FAILURES:
                    self._settle(call, None)
                else:
                    self.pacer.release(call.slot)
                raise
            finally:
                counters.network += time() - (call.sent or time())
            self._settle(call, reply)
            self.clock.learn(reply.headers.get("Date"), call.started, wall_time())
            return reply

    async def _acquire(self, call: Call) -> Permit:
        """Wait for the pace, unless it would take too long."""
        wait = self.pacer.expected_wait()
        self._check_fits(call, wait, "the pace, or a pause the server asked for,")
        return await self.pacer.acquire()

    def _check_fits(self, call: Call, wait: float, what: str, cause: HarnessError | None = None) -> None:
        """Refuse a wait that would end after the deadline."""
        if call.deadline is not None and asyncio.get_running_loop().time() + wait >= call.deadline:
            raise call.deadline_error(f"{what} would take {wait:.1f} s, beyond the deadline of the call") from cause

    def _settle(self, call: Call, reply: RawResponse | None) -> None:
        """Tell the pacer what became of a request, and the observer what became of the gate."""
        slot = call.slot
        if slot is None:
            return
        limiter = self.pacer.limiter
        was_open, generation = limiter.is_open, limiter.generation
        if reply is not None and reply.status in _SUCCESS and was_open:
            self.pacer.record_success(slot)  # which opens or closes nothing
            return
        if reply is None or (reply.status >= _SERVER_ERROR):
            self.pacer.record_failure(slot)
        elif reply.status == _TOO_MANY:
            self.counters.throttled += 1
            self.pacer.record_throttled(slot, parse_retry_after(reply.headers, wall_time()))
        else:
            self.pacer.record_success(slot)
        now = asyncio.get_running_loop().time()
        if limiter.generation != generation:
            reason = "refused by rate" if reply is not None and reply.status == _TOO_MANY else "outage"
            wait = max(0.0, limiter.open_at - now)
            logger.info("gate closed for %.1f s: %s", wait, reason)
            self._emit(events.GateClosed(reason=reason, wait=wait))
        elif limiter.is_open and not was_open:
            rate = limiter.rate(now)
            logger.info("gate open, %.1f requests per second", rate)
            self._emit(events.GateOpened(rate=None if rate == float("inf") else rate))

    def _take(self, call: Call, decode: Decode[T], reply: RawResponse, began: float) -> Result[T] | None:
        """Make the value of a successful reply."""
        problem: RequestError | None = None
        failure: Failure | None = None
        value: Any = None
        try:
            value = decode(reply)
        except DecodeError as error:
            problem = call.decode_error(reply, error)
        except ValueError as error:
            html = looks_like_html(reply.headers, reply.body)
            what = "an HTML page: a proxy or a sign-in page answered" if html else f"not JSON ({error})"
            problem = call.unexpected(reply, what)
            failure = Failure(FailureKind.HTML if html else FailureKind.NOT_JSON)
        finally:
            self.counters.decoding += asyncio.get_running_loop().time() - began
        # Behind the `except`, so that no error hangs on to a body by way of its context.
        call.record_attempt(began, status=reply.status, error=None if problem is None else str(problem))
        if problem is None:
            return Result(value, reply, call.attempts)
        problem.attempts = tuple(call.attempts)
        if failure is None:
            problem.ambiguous = not call.request.repeatable
            raise problem
        self._decide(call, failure, problem)
        return None

    def _decide(self, call: Call, failure: Failure, error: RequestError, cause: BaseException | None = None) -> None:
        """Plan the next attempt, or raise the error."""
        decision = call.retry_state.decide(failure)
        if decision.action in {RetryAction.FAIL, RetryAction.AMBIGUOUS}:
            once = not call.request.repeatable and may_have_taken_effect(failure)
            error.ambiguous = decision.action is RetryAction.AMBIGUOUS or once or (call.doubtful and not call.reads)
            raise error from cause
        call.doubtful = call.doubtful or may_have_taken_effect(failure)
        self._check_fits(call, decision.wait, "the wait before the next attempt", error)
        call.backoff = decision.wait
        self.counters.retries += 1
        logger.debug("%s %s: retry in %.2f s: %s", call.request.method, call.display_url, decision.wait, error)
        self._emit(
            events.RetryPlanned(
                method=call.request.method,
                url=call.display_url,
                attempt=len(call.attempts),
                reason=str(error),
                wait=decision.wait,
            )
        )

    def _redirect(self, call: Call, reply: RawResponse) -> None:
        """Go on at the target of a redirect, if it is ours to go to."""
        request = call.request
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
            if call.redirects >= _MAX_REDIRECTS
            else None
        )
        if problem:
            raise UnexpectedResponseError(
                f"The server answered with a redirect {problem} "
                f"({request.method} {call.display_url}, status {reply.status}, location {call.redact_text(location)!r})",
                status=reply.status,
                body=call.redact(reply.body),
                **call.context(),
            )
        call.redirects += 1
        call.backoff = 0.0
        call.request = evolve(request, url=target.with_fragment(None))

    def count_page(self, request: Request, number: int, rows: int, total: int | None) -> None:
        """Count a page that was read."""
        self.counters.pages += 1
        self.counters.rows += rows
        if self.on_event is not None:
            self._emit(events.PageRead(url=str(request.url), page=number, rows=rows, total_items=total))

    # -- seeing inside -------------------------------------------------------------------------------------------

    def _sent(self, call: Call, now: float) -> None:
        call.mark_sent(now)
        self.counters.requests += 1
        if self.on_event is not None:
            attempt = len(call.attempts) + 1
            self._emit(events.RequestSent(method=call.request.method, url=call.display_url, attempt=attempt))

    def _answered(self, call: Call, reply: RawResponse, now: float) -> None:
        self.counters.bytes_received += len(reply.body)
        if logger.isEnabledFor(logging.DEBUG):
            self._log(call, reply, "")
        if self.on_event is not None:
            self._emit(
                events.ResponseReceived(
                    method=call.request.method,
                    url=call.display_url,
                    attempt=len(call.attempts) + 1,
                    status=reply.status,
                    elapsed=now - (call.sent or now),
                    size_bytes=len(reply.body),
                    correlation_id=_correlation(call, reply),
                )
            )

    def _log(self, call: Call, reply: RawResponse | None, error: str) -> None:
        correlation = None if reply is None else _correlation(call, reply)
        logger.debug(
            "%s %s: %s, %.3f s, attempt %d%s",
            call.request.method,
            call.redact_text(call.request.url.raw_path_qs),
            error if reply is None else reply.status,
            asyncio.get_running_loop().time() - call.sent if call.sent is not None else call.attempts[-1].elapsed,
            len(call.attempts) + (reply is not None),
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


def _correlation(call: Call, reply: RawResponse) -> str | None:
    text = reply.headers.get("X-Request-Id")
    return None if text is None else call.redact_text(text)

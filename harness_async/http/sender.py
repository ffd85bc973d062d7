"""The sender: one loop that sends a request until it has a response, or until another attempt is pointless.

One attempt waits for a place among the requests in flight, then for the pacer, sends the request, reads the response to
its end, and releases place and connection. Only then the sender decides, and only then it waits before a retry. The
deadline of the call covers all of it; a wait that does not fit before the deadline fails at once.

What is retried is decided in `retry`. Where a request may have taken effect and must not be sent again unseen, the
error is `ambiguous`, and the resource decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from time import time as wall_time
from typing import Generic, TypeAlias, TypeVar

from attrs import define, evolve, field
from yarl import URL

from harness_async import events
from harness_async.config import Credentials, RetryPolicy, Timeouts
from harness_async.errors import Attempt, DecodeError, RequestError
from harness_async.http.call import Call
from harness_async.http.failures import TransportFailure
from harness_async.http.pacer import RatePacer
from harness_async.http.rate_limit import Permit
from harness_async.http.redaction import drop_tracebacks
from harness_async.http.redirects import follow_redirect
from harness_async.http.responses import ErrorBodyError, is_html, is_throttled, parse_retry_after
from harness_async.http.retry import Failure, FailureKind, RetryAction, RetryDecision, RetryState, may_have_taken_effect
from harness_async.http.transport import CLOSED, RawResponse, Request, Transport
from harness_async.types import LimitedBy

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("harness_async.http")

_LONG_WAIT = 5.0
"""Seconds from which the wait before a retry is logged at INFO rather than DEBUG."""

_SUCCESS = range(200, 300)
_REDIRECT = range(300, 400)
_SERVER_ERROR = 500

_SERVER_FAILURES = frozenset({FailureKind.NOT_SENT, FailureKind.LOST, FailureKind.READ_TIMEOUT, FailureKind.CUT})
"""Failures that count towards an outage: the service, or the network to it, is the cause."""

Decode: TypeAlias = Callable[[RawResponse], T]
"""Decodes a successful response. `ValueError` means that the body is not JSON, `DecodeError` that it does not fit,
`ErrorBodyError` that it reports an error."""


@define(eq=False)
class Result(Generic[T]):
    """The decoded value of a call and its response."""

    value: T
    response: RawResponse
    requests: int
    """Requests sent, retries included."""

    _call: Call
    _ended: float

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All attempts, the successful one included."""
        return (*self._call.attempts, self._call.current_attempt(self._ended, status=self.response.status))


@define(eq=False)
class Sender:
    """Sends the requests of one API key. Safe for concurrent use by tasks of one loop."""

    transport: Transport
    pacer: RatePacer
    credentials: Credentials
    timeouts: Timeouts
    retry: RetryPolicy
    on_event: Callable[[events.Event], None] | None
    max_in_flight: int
    in_flight: asyncio.Semaphore = field(init=False, repr=False)
    """The only place where requests queue before they are paced (first in, first out)."""

    backing_off: set[Call] = field(factory=set, init=False, repr=False)
    """Calls that wait before a retry."""

    counters: events.Counters = field(factory=events.Counters, init=False, repr=False)
    _rng: random.Random = field(factory=random.Random, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.in_flight = asyncio.Semaphore(self.max_in_flight)

    def with_options(
        self,
        timeouts: Timeouts | None,
        retry: RetryPolicy | None,
        on_event: Callable[[events.Event], None] | None,
    ) -> Sender:
        """Return a sender with other options that shares connections, pacer, places and counters."""
        other = evolve(
            self,
            timeouts=timeouts or self.timeouts,
            retry=retry or self.retry,
            on_event=on_event or self.on_event,
        )
        other.in_flight, other.counters, other.backing_off = self.in_flight, self.counters, self.backing_off
        return other

    def deadline(self) -> float | None:
        """Return the loop time at which a call that begins now has to be over."""
        limit = self.timeouts.deadline
        return None if limit is None else asyncio.get_running_loop().time() + limit

    def limited_by(self) -> LimitedBy:
        """Return what holds requests back at this moment."""
        limiter = self.pacer.limiter
        if not limiter.is_open or limiter.open_at > asyncio.get_running_loop().time():
            return "cooldown"
        if self.pacer.waiting:
            return "rate limit"
        return "retries" if self.backing_off else "latency"

    def rate(self) -> float | None:
        """Return the requests per second that may be sent at this moment; None without a known limit."""
        rate = self.pacer.limiter.rate(asyncio.get_running_loop().time())
        return None if rate == float("inf") else rate

    async def send(self, request: Request, decode: Decode[T], *, deadline: float | None = None) -> Result[T]:
        """Send a request and return its decoded response.

        Args:
            request: The request.
            decode: Decodes a successful response.
            deadline: A loop time; None takes the deadline of the timeouts.

        Raises:
            RequestError: The call failed; `attempts` holds what was tried.
            RuntimeError: The client is closed, or belongs to another loop or process.
        """
        self.transport.open()
        call = Call(
            request,
            self.deadline() if deadline is None else deadline,
            self.credentials,
            self.transport.clock.now,
            began=asyncio.get_running_loop().time(),
        )
        state: RetryState | None = None  # most calls do not fail
        timeout = asyncio.timeout_at(call.deadline)
        self.transport.calls.add(timeout)
        try:
            async with timeout:
                while True:
                    outcome = await self._attempt(call)
                    now = asyncio.get_running_loop().time()
                    if isinstance(outcome, TransportFailure):
                        error, failure = call.transport_error(outcome, now)
                    elif outcome.status in _SUCCESS:
                        result = self._decode(call, outcome, decode, now)
                        if isinstance(result, Result):
                            self.transport.key_was_accepted = True
                            return result
                        error, failure = result
                    elif outcome.status in _REDIRECT:
                        call.record_attempt(now, status=outcome.status, error="redirected")
                        call.request = follow_redirect(call, outcome)
                        continue
                    else:
                        error, failure = call.status_error(outcome, now)
                    if state is None:
                        state = RetryState(self.retry, request.method, request.repeatable, self._rng)
                    decision = state.decide(failure, key_was_accepted=self.transport.key_was_accepted)
                    if decision.action not in {RetryAction.RETRY, RetryAction.GATE}:
                        raise _final(error, call, failure, decision)
                    call.ambiguous = call.ambiguous or may_have_taken_effect(failure)
                    await self._back_off(call, decision, error)
        except TimeoutError:
            if not timeout.expired():
                raise
        finally:
            self.transport.calls.discard(timeout)
        raise self._ended(call)

    def _ended(self, call: Call) -> Exception:
        """Return the error of a call that `close` or its deadline ended."""
        if self.transport.closed:
            return RuntimeError(CLOSED)
        now = asyncio.get_running_loop().time()
        call.ambiguous = call.ambiguous or (call.sent_at is not None and call.request.is_sent)
        call.record_attempt(now, error="cut short by the deadline")
        expired = call.deadline_error("The deadline of the call passed", now)
        expired.ambiguous = call.ambiguous and not call.is_read
        return expired

    async def _attempt(self, call: Call) -> RawResponse | TransportFailure:
        """Send the request once. Holds a place and a permit meanwhile, and waits for nothing else."""
        time = asyncio.get_running_loop().time
        call.queued_at = time()
        async with self.in_flight:
            acquired = time()
            permit = self.pacer.try_acquire() or await self._acquire(call)
            try:
                if not call.request.repeatable:
                    await _process_closed_connections()
                call.sent_at, call.started = time(), wall_time()
                self.counters.queued += acquired - call.queued_at
                self.counters.paced += call.sent_at - acquired
                self.counters.requests += 1
                self.counters.retries += call.is_retry
                call.is_retry = False
                if self.on_event is not None:
                    self._emit_request(call)
                try:
                    outcome: RawResponse | TransportFailure = await self.transport.send(call.request, self.timeouts)
                except TransportFailure as failure:
                    drop_tracebacks(failure)  # whose frames hold the headers with the key
                    failure.args = (call.redact_text(str(failure)),)
                    outcome = failure
                finally:
                    self.counters.network += time() - call.sent_at
            except BaseException:
                self.pacer.release(permit)
                raise
            self._record_outcome(permit, outcome)
        if isinstance(outcome, RawResponse):
            self.counters.bytes_received += len(outcome.body)
        if self.on_event is not None or logger.isEnabledFor(logging.DEBUG):
            self._report_outcome(call, outcome)
        return outcome

    async def _acquire(self, call: Call) -> Permit:
        """Wait for the pacer, unless the wait does not fit before the deadline."""
        wait = self.pacer.expected_wait()
        if wait and _is_late(call, wait):
            raise call.deadline_error(
                f"The rate limit, or a pause that the server requested, takes {wait:.1f} s, beyond the deadline",
                asyncio.get_running_loop().time(),
            )
        return await self.pacer.acquire()

    async def _back_off(self, call: Call, decision: RetryDecision, error: RequestError) -> None:
        """Wait before a retry, unless the wait does not fit before the deadline."""
        if _is_late(call, decision.wait):
            late = call.deadline_error(
                f"The wait before the next attempt takes {decision.wait:.1f} s, beyond the deadline",
                asyncio.get_running_loop().time(),
            )
            late.ambiguous = call.ambiguous and not call.is_read
            raise late
        level = logging.INFO if decision.wait > _LONG_WAIT else logging.DEBUG
        logger.log(level, "retry in %.1f s: %s", decision.wait, error)
        self._emit(
            events.RetryPlanned(
                method=call.request.method,
                url=call.display_url,
                attempt=len(call.attempts),
                reason=str(error),
                wait=decision.wait,
            )
        )
        call.backoff, call.is_retry = decision.wait, True
        if decision.wait:
            self.backing_off.add(call)
            try:
                await asyncio.sleep(decision.wait)
            finally:
                self.backing_off.discard(call)
            self.counters.backoff += decision.wait

    def _decode(
        self, call: Call, response: RawResponse, decode: Decode[T], began: float
    ) -> Result[T] | tuple[RequestError, Failure]:
        """Decode a successful response; return its value, or the error to decide on."""
        try:
            value = decode(response)
        except ErrorBodyError:
            return call.status_error(response, began)
        except DecodeError as error:
            problem: RequestError = call.decode_error(response, error, began)
        except ValueError as error:
            html = is_html(response.headers, response.body)
            what = "an HTML page: a proxy or a sign-in page responded" if html else f"not JSON ({error})"
            kind = FailureKind.HTML if html else FailureKind.NOT_JSON
            return call.unexpected_response(response, what, began), Failure(kind)
        else:
            return Result(value, response, len(call.attempts) + 1, call, began)
        finally:
            self.counters.decoding += asyncio.get_running_loop().time() - began
        # Outside the `except` block, so that the error does not keep the body by way of its context.
        problem.ambiguous = not call.request.repeatable
        raise problem

    def _record_outcome(self, permit: Permit, outcome: RawResponse | TransportFailure) -> None:
        """Report the outcome of a request to the pacer, and a change of the gate to the observer."""
        limiter = self.pacer.limiter
        was_open = limiter.is_open
        if (
            was_open
            and isinstance(outcome, RawResponse)
            and outcome.status in _SUCCESS
            # An array holds rows, not an error, and need not be searched for one.
            and (outcome.body.startswith(b"[") or not is_throttled(outcome))
        ):
            self.pacer.record_success(permit)  # which does not change the gate
            return
        was_outage, generation, throttled = limiter.is_outage, limiter.generation, False
        if isinstance(outcome, TransportFailure):
            if outcome.kind in _SERVER_FAILURES:
                self.pacer.record_failure(permit)
            else:
                self.pacer.release(permit)
        elif is_throttled(outcome):
            throttled = True
            self.counters.throttled += 1
            requested = parse_retry_after(outcome.headers, self.transport.clock.now() or wall_time())
            # A number of the server's must not close the gate for longer than any call would wait.
            is_credible = requested is not None and requested <= self.retry.max_retry_after
            self.pacer.record_throttled(permit, requested if is_credible else None)
        elif outcome.status >= _SERVER_ERROR:
            self.pacer.record_failure(permit)
        else:
            self.pacer.record_success(permit)
        if limiter.generation != generation:
            reason = "rate limited by the server" if throttled else "outage"
            wait = max(0.0, limiter.open_at - asyncio.get_running_loop().time())
            if throttled:
                logger.info("the server limits the rate: no requests for %.1f s", wait)
            else:
                level = logging.INFO if was_outage else logging.WARNING
                logger.log(level, "outage, most requests fail: no requests for %.1f s", wait)
            self._emit(events.GateClosed(reason=reason, wait=wait))
        elif limiter.is_open and not was_open:
            rate = self.rate()
            logger.info("requests flow again%s", "" if rate is None else f", {rate:.1f} per second at most")
            self._emit(events.GateOpened(rate=rate))

    def record_page(self, url: URL, number: int, rows: int, total: int | None) -> None:
        """Count a page that was read."""
        self.counters.pages += 1
        self.counters.rows += rows
        if self.on_event is not None:
            self._emit(events.PageRead(url=str(url), page=number, rows=rows, total_items=total))

    # -- observation ---------------------------------------------------------------------------------------------

    def _emit_request(self, call: Call) -> None:
        attempt = len(call.attempts) + 1
        self._emit(events.RequestSent(method=call.request.method, url=call.display_url, attempt=attempt))

    def _report_outcome(self, call: Call, outcome: RawResponse | TransportFailure) -> None:
        elapsed = 0.0 if call.sent_at is None else asyncio.get_running_loop().time() - call.sent_at
        attempt = len(call.attempts) + 1
        correlation = outcome.headers.get("X-Request-Id") if isinstance(outcome, RawResponse) else None
        correlation = None if correlation is None else call.redact_text(correlation)
        logger.debug(
            "%s %s: %s, %.3f s, attempt %d%s",
            call.request.method,
            call.redact_text(call.request.url.raw_path_qs),
            outcome.status if isinstance(outcome, RawResponse) else outcome,
            elapsed,
            attempt,
            f", correlation id {correlation}" if correlation else "",
        )
        if isinstance(outcome, RawResponse):
            self._emit(
                events.ResponseReceived(
                    method=call.request.method,
                    url=call.display_url,
                    attempt=attempt,
                    status=outcome.status,
                    elapsed=elapsed,
                    size_bytes=len(outcome.body),
                    correlation_id=correlation,
                )
            )

    def _emit(self, event: events.Event) -> None:
        """Pass an event to the observer. Exceptions that it raises are logged and ignored."""
        if self.on_event is None:
            return
        try:
            self.on_event(event)
        except Exception:
            logger.exception("on_event raised an exception; the call continues")


async def _process_closed_connections() -> None:
    """Let the loop notice the connections that the server has closed, perhaps while the loop was blocked.

    A request on such a connection fails as if it could have taken effect. The loop polls its sockets in one turn, reads
    the end of the stream in the next, and closes the transport in the third.
    """
    for _ in range(3):
        await asyncio.sleep(0)


def _is_late(call: Call, wait: float) -> bool:
    return call.deadline is not None and asyncio.get_running_loop().time() + wait >= call.deadline


def _final(error: RequestError, call: Call, failure: Failure, decision: RetryDecision) -> RequestError:
    """Return the error of a call that is not retried, marked as ambiguous where it may have taken effect."""
    once = not call.request.repeatable and may_have_taken_effect(failure)
    error.ambiguous = decision.action is RetryAction.AMBIGUOUS or once or (call.ambiguous and not call.is_read)
    return error

"""One call of the API, from a request to a decoded object: deadlines, retries, pacing.

# Time limits

`harness_async.Timeouts` has three. `connect` ends an attempt that finds no connection, DNS and TLS included. `read`
ends an attempt when the server is silent for so long. `deadline` ends the call: it covers queueing, pacing, all
attempts with their bodies, and the waits between them. A call that runs out of time raises
`harness_async.DeadlineExceededError`, whose message begins with the last response.

# Retries

A failure that may pass is retried with full jitter: the wait before retry n is drawn from 0 to `initial_backoff * 2
** n` seconds, up to `max_backoff`, and is never shorter than the `Retry-After` of the response. Retries end with the
deadline, or with `max_attempts`. A `Retry-After` above `max_retry_after` is not waited for: the error is raised.

| failure | GET | PUT, DELETE | POST |
| --- | --- | --- | --- |
| nothing was sent: no connection, DNS, TLS timeout | retry | retry | retry |
| connection lost, no response in time, response cut off | retry | retry | raise, ambiguous |
| 408, 499, 5xx except 501 and 505 | retry | retry | raise, ambiguous |
| 429 | wait for the gate | wait for the gate | wait for the gate |
| 401 after the key was accepted | retry once | retry once | retry once |
| another status, a refused certificate, an HTML page | raise | raise | raise |

`harness_async.RequestError.ambiguous` says that a change may have taken effect although the call failed; check before
sending it again. `executions.create` looks for its execution by itself. The whole table is in
`harness_async/http/retry.py`.

# Pacing

Requests are spaced evenly at 99 % of `harness_async.RateLimit`, so that they fit however the server counts. A 429
closes a gate for all tasks of the client. When it opens, one request is sent; the others follow when it is accepted.
When most requests of a client fail, the gate closes as well, so that an outage costs few requests.

The limit belongs to the key. Clients of one loop share a budget by one `harness_async.RatePacer`, processes of one
machine by `harness_async.SharedPacer` on the same file, and others by an implementation of `harness_async.Pacer`,
whose documentation describes Redis and Postgres:

```python
from harness_async import HarnessClient, RateLimit, SharedPacer

harness = HarnessClient("sat.account.id.secret", pacer=SharedPacer("harness.pace", RateLimit(1000, 60.0)))
```

# Logging and events

The loggers below `harness_async` write requests at DEBUG, a retry that waits longer than 5 s and a closed gate at
INFO, and an outage at WARNING. `HarnessClient(on_event=...)` receives the events of `harness_async.events`, and
`HarnessClient.stats` counts them. The key never shows in them.
"""

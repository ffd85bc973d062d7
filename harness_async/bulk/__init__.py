"""The same list of many projects, read concurrently.

```python
import asyncio
from harness_async import HarnessClient

async def main() -> None:
    async with HarnessClient() as harness:
        async with harness.executions.bulk(concurrency=16) as run:
            async for batch in run.batches():
                print(batch.project, len(batch.items))
        print(run.report)
        run.report.raise_for_failures()

asyncio.run(main())
```

Without `projects`, a run discovers the projects that the key can see, and reads them as they are found. Rows of one
project arrive in the order of its list; rows of different projects are mixed. Memory is bounded: requests stop while
no rows are consumed. A huge project is read by several requests at a time once few others are left.

# The report

`run.report` is a `harness_async.BulkReport`. Each project has one `harness_async.ProjectOutcome`: `complete`,
`failed`, `denied`, `not_found` or `pending`, with the guarantee of its rows and its error. `report.discovery` is the
guarantee of the list of projects. The failure of one project does not end a run, unless `on_error="raise"`. A refused
key ends it with `harness_async.AuthenticationError`, and 20 projects that fail alike from the beginning end it with
their error; `error.report` is the report so far.

# Size and cost

`await run.plan()` reads the first page of each project and estimates rows, requests and minutes; the run does not
read these pages again. `max_requests` raises `harness_async.BudgetError` before a run that would take more.

# Checkpoints

With `checkpoint="run.jsonl"`, a run that was killed continues where it stopped, with the same time window. A project
is marked as read when all its rows were consumed; a project that was interrupted is read again. A checkpoint with
other filters, another host or account, or a damaged one raises `harness_async.CheckpointError`, and the file is not
changed.

# Sync

```python
import asyncio
from pathlib import Path
from harness_async import HarnessClient, SyncState

async def main(path: Path) -> None:
    state = SyncState.from_json(path.read_text()) if path.exists() else None
    async with HarnessClient() as harness:
        async with harness.executions.sync(state) as run:
            async for execution in run:
                print(execution.key, execution.status)  # insert it, or replace the row with this key
    path.write_text(run.state.to_json())

asyncio.run(main(Path("sync.json")))
```

The first sync reads everything, the next ones what is new since the state. Executions that were unfinished are looked
at again, and delivered when their status has changed. Store the state after the rows: a row may be delivered twice,
and none is left out. Projects that were not read keep their last state.
"""

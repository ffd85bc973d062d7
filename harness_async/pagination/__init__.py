"""Lists that are read page by page, and what is guaranteed of their rows.

A list method returns a `harness_async.Pager` and sends nothing:

```python
import asyncio
from harness_async import HarnessClient

async def main() -> None:
    async with HarnessClient() as harness:
        pager = harness.executions.list("default", "payments")
        print(await pager.count(), await pager.first())
        async for page in pager.pages():
            print(page.number, len(page.items))
        async with pager.walk() as walk:  # closed also after a break
            async for execution in walk:
                ...
        print(walk.report)

asyncio.run(main())
```

Each iteration reads the list from its beginning. Pages are requested as they are consumed; `prefetch` requests pages
ahead. A row is delivered once, even where it appears on two pages.

# Lists that change while they are read

Pages are counted from the beginning of a list. A row that is added or removed meanwhile shifts all later rows, and a
client that only counts pages loses rows or reads them twice. `consistency` says how a list is protected:

- `"live"`, the default of `list`: pages in their order, the newest rows included. Additions alone or removals alone
  lose nothing, because the page before is read again when the total falls. A removal that an addition hides is not
  noticed.
- `"checked"`, the default of `bulk` and `sync`: the end of the time window is the present time of the server, so that
  nothing can be added. The totals of all pages are compared with the rows that came. Where they agree, nothing is
  missing, at no extra request. Where they do not, the list is read another way.
- `"strict"`: the time window is moved along the list instead of counting pages. This costs about one request in a
  hundred more where the server sends totals, about twice as many where it does not, and is not disturbed by anything
  that is added or removed.

`harness_async.WalkReport.guarantee` says what was reached:

| guarantee | meaning |
| --- | --- |
| `"live"` | the list as it was read |
| `"exact"` | the rows are exactly those of the window |
| `"covered"` | every row that was there during the whole walk was delivered |
| `"seek"` | the same, by moving a time window |
| `"best_effort"` | rows were delivered, and it cannot be proved that none is missing |

A total alone never ends a list: a full page is followed by one more request. A server that ignores the page number
ends with `harness_async.PaginationError` after a bounded number of requests.

# Other lists

`harness_async.HarnessClient.paginate` reads any list that is divided into numbered pages. How pages are counted,
where rows and totals are, and how a project is named follows from the path, or from a `harness_async.Dialect`.

```python
import asyncio
from harness_async import HarnessClient

async def main() -> None:
    async with HarnessClient() as harness:
        services = harness.paginate("/ng/api/servicesV2", dialect="ng_page", org="default", project="payments")
        print([row["service"]["name"] for row in await services.collect()])

asyncio.run(main())
```
"""

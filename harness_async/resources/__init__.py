"""The resources of the API: their methods and their rows.

| attribute of the client | rows | lists |
| --- | --- | --- |
| `organizations` | `harness_async.Organization` | the account |
| `projects` | `harness_async.Project` | an organization, or all with `list_all` |
| `executions` | `harness_async.Execution` | a project; `bulk`, `sync` |
| `workspaces` | `harness_async.Workspace` | a project; `bulk` |
| `activities` | `harness_async.Activity` | a project; `bulk` |
| `approvals` | `harness_async.Approval` | a project; `bulk` |
| `pipelines` | `harness_async.Pipeline` | a project; `bulk` |
| `pipeline_executions` | `harness_async.PipelineExecution` | a project; `bulk`, `sync` |
| `services` | `harness_async.Service` | a project; `bulk` |
| `environments` | `harness_async.Environment` | a project; `bulk` |
| `audits` | `harness_async.AuditEvent` | the account, an organization or a project |

`executions`, `workspaces`, `activities` and `approvals` belong to Infrastructure as Code Management (IaCM).

A row has the members that the library knows; other members of a response are ignored. The members that identify a row
are always present: a response without one raises `harness_async.DecodeError` with the path of the member. Other
missing or null members are empty (`""`, 0 or an empty mapping), because the API leaves out what is not set. Times are
milliseconds since 1970 in UTC, as sent; properties whose names end with `_at` are aware `datetime` objects, or None
where a time is missing or fits no calendar.

Words such as a status are open enums: an unknown word is kept, equals its text, and has `is_known == False`.

Identifiers are sent as given. Harness compares them without regard to case and responds in its own spelling.
"""

"""The command line `harness-async`, installed with the extra `cli`.

`app` registers the commands, `options` contains the options they share. `connection` opens the client, `errors` turns
errors into messages and exit codes, and `logs` prints the log of the library. `export` and `sync` are the two long
commands: `resources` describes the lists they read, `writers` encodes the rows, `row_writer` and `resumable_output`
write them, and `files` contains every way to write a file, to the `targets` that options name. `progress` shows the
progress, `pauses` explains why nothing happens, and `export_report` contains the closing table. `summary` reads an
exported file with `summary_rows`, counts with `summary_table`, and draws the terminal; `summary_html` renders the
page. `api` and `show` contain the short commands. `console` prints everything else.
"""

from harness_async.cli.app import run

__all__ = ["run"]

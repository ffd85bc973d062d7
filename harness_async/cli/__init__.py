"""The command line `harness-async`, installed with the extra `cli`.

`app` declares the commands, `options` the options they share. `connection` opens the client and turns errors into exit
codes. `export` and `sync` contain the work of the two long commands, `writers` and `resumable_output` their output
files, `progress` the progress display and the summary. `console` prints everything else.
"""

from harness_async.cli.app import run

__all__ = ["run"]

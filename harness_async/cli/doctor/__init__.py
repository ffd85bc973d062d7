"""`harness-async doctor`: checks a connection, and how the service behaves where its documentation is silent.

`configuration`, `connection` and `habits` contain the checks, `probes` every request that they may send, and `command`
runs them and prints the report.
"""

"""The API of the fake server: routes, queries, lists and operations. No network."""

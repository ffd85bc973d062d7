"""The same list of many projects, read concurrently."""

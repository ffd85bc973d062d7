"""One call of the API, from a request to a decoded object."""

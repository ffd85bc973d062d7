"""The resources of the API: models and methods."""

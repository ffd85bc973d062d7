"""Asyncio client for the Harness platform API."""

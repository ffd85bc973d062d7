"""The data of the fake server: rows in tables, and the methods that add, change and remove them. No network."""

"""Where versions lie: the port (`base`), a complete one in memory for tests, and MongoDB."""

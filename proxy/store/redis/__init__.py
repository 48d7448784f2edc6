"""The store in Redis, shared by several hosts."""

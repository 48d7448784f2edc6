"""Stored records and tokens: records (rules), codec (bytes), seeds, recovery and tombstones."""

"""Conversion between stored records and tokens: records (rules), codec (bytes), seeds and recovery."""

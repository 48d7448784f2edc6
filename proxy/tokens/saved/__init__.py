"""Between a stored record and what an account holds: records (rules) and codec (bytes)."""

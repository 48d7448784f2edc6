"""Reports to a program or a URL that an account needs a person, and that it works again.

    accounts in memory ──► decide ──► lease ──► read what was reported ──► message ──► deliver ──► note it

What was reported last about an account is a record of the store (reported.py), so that neither a restart nor
another replica repeats it. It is noted after the delivery: a process that dies in between is followed by one
that reports again. At least once: a report that is lost on a Sunday is worse than one that comes twice.
"""

"""Refreshes: from "this token is due" to the saved record.

scheduler      starts what is due, ahead of expiry
single_flight  one refresh per account in this process; callers wait for it together
throttle       what all accounts of one client share: turns, rate, outages
breaker        its states: closed, open, half-open; and what follows from what
refusal        when a refused refresh means that a person must log in
lease          one refresh per account across processes
refresh        one refresh: re-read, intent, send, save
introspection  how long a token lives, where its server did not say
backoff        pauses after failures
"""

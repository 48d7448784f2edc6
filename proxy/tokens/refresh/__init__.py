"""Refreshes: from "this token is due" to the saved record.

scheduler      starts refreshes that are due, ahead of expiry
single_flight  one refresh per account in this process; callers wait for it together
throttle       limits shared by all accounts of one client: turns, rate, circuit breaker
breaker        its states (closed, open, half-open) and transitions
refusal        when a refused refresh means that a person must log in
lease          one refresh per account across processes
refresh        one refresh: re-read, intent, send, save
introspection  the lifetime of a token, if its response did not state it
backoff        pauses after failures
"""

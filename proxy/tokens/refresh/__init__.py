"""Refreshes: from "this token is due" to the saved record.

scheduler      starts what is due, ahead of expiry
single_flight  one refresh per account in this process; callers wait for it together
throttle       what all accounts of one client share: turns, rate, outages
lease          one refresh per account across processes
refresh        one refresh: re-read, intent, send, save
backoff        pauses after failures
"""

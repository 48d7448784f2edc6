"""token-proxy: a reverse proxy that attaches OAuth 2.0 tokens to outgoing calls.

The way of a request (relay/):

    caller ──bytes──► inbound ──head──► exchange ──► target, routes   where to
                                           │   └───► admission        may it
                                           ├───────► tokens.ready     with which token
                                           ├───────► headers          strip, then add
                                           └───────► upstream ──► the answer, and back the same way

The way of a token (tokens/):

    login ──► logins.begin ──► browser ──► logins.finish ──► oauth (grants, endpoint, answer)
                                                                    │
    request ──► manager.ready ◄── account (memory) ◄── flight ──► store (sealed)
                                                        └─ gate (turn), lease, re-read, intent, send, save
    refresher ──► what is due, by the store's index ────┘

Wheels have relay/ and what it calls for each request compiled (pyproject.toml); tokens/ stays Python.

Rooms, from the bottom up; imports go downward only (tests/test_shape.py):

    errors secret tasks clock metrics tally descriptors   know nothing of ours
    config/                                the file, every fault with its place
    routes logs listen                     small parts that several rooms use
    oauth/                                 what is said to an authorization server, and its answers
    store/                                 records that survive, sealed; one file, or shared by many hosts
    tokens/                                the life of a token
    relay/                                 the data path; knows tokens/, never oauth/ or store/
    state                                  the composition root
    admin/                                 status page, logins, metrics, health
    worker                                 one process: listen, serve, drain
    commands/ demo/                        what the command line does
    cli                                    the only printing, the only exit codes
"""

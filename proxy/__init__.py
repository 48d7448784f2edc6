"""token-proxy: a reverse proxy that attaches OAuth 2.0 tokens to outgoing calls.

A request (relay/, http/):

    caller ──bytes──► inbound ──head──► exchange ──► admission       may it pass, and to which route
                                           ├───────► tokens.ready    with which token
                                           ├───────► http.headers    strip, then add
                                           └───────► upstream ──► the response, and back the same way

A token (tokens/, oauth/):

    login ──► logins.begin ──► browser ──► logins.finish ──► oauth (grants, endpoint, token_response)
                                                                    │
    request ──► manager.ready ◄── account (memory) ◄── refresh ──► store (sealed)
                                                        └─ throttle, lease, re-read, intent, send, save
    scheduler ──► what is due, by the store's index ────┘

Wheels have http/, relay/ and what they call per request compiled (pyproject.toml); the rest stays Python.

Packages, from the bottom up; imports go downward only (tests/test_shape.py):

    errors secret tasks clock hosts fd_limits    know nothing of ours
    observe/            metrics, request_metrics, logs (as low as these); health, status (above services)
    config/             the file, every fault with its place
    routes listen       small parts that several packages use
    http/               messages: bytes to values and back; pure
    oauth/              requests to an authorization server, and its responses
    store/              sealed records that survive: one file, or shared by many hosts
    tokens/             the life of a token: refresh/, login/, saved/ (between account and record);
                        diagnosis/: what is told of an account, one table for all that tell it
    relay/              the data path; imports tokens/, never oauth/ or store/
    services            what one configuration needs, put together
    admin/              status page, logins, metrics, health
    process             one process: listen, serve, drain
    commands/ demo/     what the command line does
    cli                 the only printing, the only exit codes
"""

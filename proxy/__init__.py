"""token-proxy: a reverse proxy that attaches OAuth 2.0 tokens to outgoing calls.

A request (relay/, http/):

    caller ──bytes──► inbound ──head──► exchange ──► admission       is it allowed, and which route
                                           ├───────► tokens.ready    which token
                                           ├───────► http.headers    remove and add fields
                                           └───────► upstream ──► response, back the same way

A token (tokens/, oauth/):

    login ──► logins.begin ──► browser ──► logins.finish ──► oauth (grants, endpoint, token_response)
                                                                    │
    request ──► manager.ready ◄── account (memory) ◄── refresh ──► store (sealed)
                                                        └─ throttle, lease, re-read, intent, send, save
    scheduler ──► due accounts, by the store's index ───┘

In wheels http/, relay/ and the modules that they call per request are compiled (see pyproject.toml).

Packages, from the bottom up; imports go downward only (tests/test_shape.py):

    errors secret tasks accept clock hosts caller_keys fd_limits reserve systemd name_lookup
    failure_causes file_thread hooks signals
                        import none of the others
    observe/            metrics (request_metrics, process_metrics), logs, events, request_log, log_writer,
                        audit, audit_file: at the bottom too;
                        health, status, supervision: above services
    config/             the configuration file; every fault with its position
    routes listen adopted
                        the route table; listeners, and sockets of a service manager for them
    control_socket      how commands find the running server
    http/               HTTP messages: parse, rewrite, format; pure
    oauth/              requests to an authorization server, and its responses
    store/              durable encrypted records: in a file, or shared by several hosts
    tokens/             the lifecycle of a token: refresh/, login/, saved/ (records of accounts);
                        diagnosis/ (the table of what is said of an account)
    relay/              the data path; imports tokens/, never oauth/ or store/
    services            the objects that a configuration needs, connected
    tls_material listeners watched_files
                        TLS contexts and open listeners; when a changed file is taken up
    admin/              status page, logins, metrics, health
    generation          all that one configuration is made into; a reload replaces it whole
    process             a serving process, and what outlives a reload: listen, serve, drain
    config_watch reload
                        other configurations and other contents of files, for a serving process
    commands/ demo/     the actions of the command line
    cli                 options, output and exit codes
"""

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

Where a C compiler is, http/, relay/, sockets/ and the modules that they call per request are compiled
(hatch_build.py).

Packages, from the bottom up; imports go downward only (tests/test_shape.py):

    errors endings secret tasks clock hosts caller_keys name_lookup failure_causes
    accept unix_sockets fd_limits reserve file_thread
                        connections and open files; a thread for file systems that may hang
    sockets/            callers' connections without TLS: one epoll, accept and a transport of our own
    qr_code             a URL as a QR code
    systemd signals hooks
                        the service manager, signals; callbacks when a process starts, reloads, drains
    compiled            whether the data path is compiled
                        all of the above import only each other, and observe/
    observe/            metrics: metrics, request_metrics, token_metrics, process_metrics;
                        logs: logs, events, event_table, request_lines, request_log, log_writer;
                        audit, audit_file: at the bottom too;
                        health, status, listing (with query, account_index), supervision (for the service
                        manager): above services
    config/             the configuration: a file, or environment variables; every fault with its position
    routes listen adopted
                        the route table; listeners, and sockets of a service manager for them
    control_socket      the requests of commands to the running server
    http/               HTTP messages: parse, rewrite, format; pure
    oauth/              requests to an authorization server, and its responses
    store/              durable encrypted records: in a file, or shared by several hosts
    tokens/             the lifecycle of a token: refresh/, login/, saved/ (records of accounts);
                        diagnosis/ (the table of sentences about an account)
    relay/              the data path; imports tokens/, never oauth/ or store/
    notify/             reports of accounts that need a person: to a program, or to a URL
    services            the objects that a configuration needs, connected
    tls_material listeners watched_files
                        TLS contexts and open listeners; when a changed file is taken up
    admin/              the admin listener: status page, logins, metrics; live and status_feed: pages that
                        are kept up to date;
                        health_listener, with probes, scrapes and pace; control (of the control socket);
                        base_urls and summary: the routes as callers reach them
    generation          all that one configuration is made into; a reload replaces it whole
    process             a serving process, and what outlives a reload: listen, serve, drain
    startup             from a configuration to a serving process
    config_watch lookups_again reload
                        other configurations and other contents of files, for a serving process
    demo/               an authorization server and an API, with the proxy between them
    commands/           a module for each command of the command line, and its parts
    cli                 options, output and exit codes
"""

"""Connections of callers without TLS, on sockets of our own.

An event loop's transport costs more per connection than what is read from it: uvloop accepts one connection
per turn, and asks the kernel for both addresses and sets three options of each. Here a listener accepts as
many as there are, and one `epoll` watches them all; the loop watches that.

accept_loop accepts connections, with TLS too, within what a gate permits
readiness   one epoll, and who handles what it reports
transport   one connection, with what relay/connection.py uses of an asyncio transport
acceptor    accepts the connections of listening sockets
"""

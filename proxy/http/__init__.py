"""HTTP/1.1 messages: bytes to values and back. Pure: no socket, no clock, no response of our own.

message     heads as received                      body      framing of bodies
head_writer heads as sent                          target    the request target
fields      blocks of header fields                rewrite   links and cookies
headers     the fields read, removed and added     policy    methods and paths that are permitted
malformed   the errors for unusable messages
"""

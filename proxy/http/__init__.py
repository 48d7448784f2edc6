"""HTTP/1.1 messages: bytes to values and back. Pure: no socket, no clock, no response of our own.

message     heads of requests and responses        body      framing of bodies
fields      blocks of header fields                target    the request target
headers     the fields read, removed and added     rewrite   links and cookies
malformed   the errors for unusable messages         policy    methods and paths that are permitted
"""

"""HTTP/1.1 messages: bytes to values and back. Pure: no socket, no clock, no response of our own.

message       heads, once read                     body      framing of bodies
request_head  reads those of requests              target    the request target
response_head reads those of responses             rewrite   links and cookies
lines         heads judged by line; a memory       policy    methods and paths that are permitted
rules         fields read and cut, by name         fields    blocks of header fields
headers       the fields read, removed and added   options   the options of Connection
head_writer   heads as sent                        malformed the errors for unusable messages
"""

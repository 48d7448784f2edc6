"""Bring up loopback, with one address more, in this process's network namespace; stay until stdin ends."""

import fcntl
import socket
import struct
import sys

SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C  # linux/sockios.h
IFF_UP = 1


def address_request(name: bytes, address: str) -> bytes:
    return struct.pack("16sH2x4s8x", name, socket.AF_INET, socket.inet_aton(address))


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    fcntl.ioctl(control, SIOCSIFADDR, address_request(b"lo:1", sys.argv[1]))
    fcntl.ioctl(control, SIOCSIFNETMASK, address_request(b"lo:1", "255.255.255.255"))
print("up", flush=True)
sys.stdin.read()

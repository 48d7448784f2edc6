"""A program that uses requests: caller.py METHOD URL BODY_FILE ANSWER_FILE; prints status and digest."""

import sys
from pathlib import Path

import requests

method, url, body_file, answer_file = sys.argv[1:]
body = Path(body_file).read_bytes() if method == "POST" else None
response = requests.request(
    method, url, data=body, headers={"Content-Type": "application/octet-stream"}, timeout=30
)
Path(answer_file).write_bytes(response.content)
print(response.status_code, response.headers.get("Content-Digest", ""))

"""curl for a machine that has none: its own library, and the options that the tests and guides use."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import pycurl

FAILED = 22  # curl's exit code for --fail


def main() -> int:
    options = _options()
    fields: dict[str, str] = {}
    body = bytearray()
    request = pycurl.Curl()
    request.setopt(pycurl.URL, options.url)
    request.setopt(pycurl.HTTPHEADER, options.header)
    request.setopt(pycurl.HEADERFUNCTION, lambda line: _keep(line.decode("latin-1"), fields))
    request.setopt(pycurl.WRITEFUNCTION, body.extend)
    if options.user:
        request.setopt(pycurl.USERPWD, options.user)
    data = _data(options)
    if data is not None:
        request.setopt(pycurl.POST, 1)
        request.setopt(pycurl.POSTFIELDSIZE_LARGE, len(data))
        request.setopt(pycurl.READFUNCTION, io.BytesIO(data).read)
    try:
        request.perform()
    except pycurl.error as error:
        code, sentence = error.args
        if options.show_error or not options.silent:
            print(f"curl: ({code}) {sentence}", file=sys.stderr)
        return int(code)
    status = request.getinfo(pycurl.RESPONSE_CODE)
    if options.fail and status >= 400:
        return FAILED
    if options.output:
        Path(options.output).write_bytes(body)
    else:
        sys.stdout.buffer.write(body)
    written = options.write_out.replace("%{http_code}", str(status))
    for name in ("content-digest",):
        written = written.replace(f"%header{{{name}}}", fields.get(name, ""))
    sys.stdout.buffer.write(written.encode())
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
    parser.add_argument("-s", "--silent", action="store_true")
    parser.add_argument("-S", "--show-error", action="store_true")
    parser.add_argument("-f", "--fail", action="store_true")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data", action="append", default=[])
    parser.add_argument("--data-binary", default="")
    parser.add_argument("-u", "--user")
    parser.add_argument("-o", "--output")
    parser.add_argument("-w", "--write-out", default="")
    parser.add_argument("url")
    return parser.parse_args()


def _data(options: argparse.Namespace) -> bytes | None:
    if options.data_binary.startswith("@"):
        return Path(options.data_binary[1:]).read_bytes()
    given = [*options.data, *filter(None, [options.data_binary])]
    return "&".join(given).encode() if given else None


def _keep(line: str, fields: dict[str, str]) -> None:
    name, colon, value = line.partition(":")
    if colon:
        fields[name.strip().lower()] = value.strip()


if __name__ == "__main__":
    sys.exit(main())

"""PNG with a palette: a third of the size, for pictures of pages, which have few colours."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Final

from playwright.sync_api import BrowserContext

COLOURS: Final = 256
# The most frequent colours of a picture, and for each pixel the nearest of them.
REDUCE: Final = """async ([png, most]) => {
  const bytes = Uint8Array.from(atob(png), (each) => each.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height).getContext("2d");
  canvas.drawImage(bitmap, 0, 0);
  const { data } = canvas.getImageData(0, 0, width, height), counts = new Map();
  const at = (pixel) => (data[4 * pixel] << 16) | (data[4 * pixel + 1] << 8) | data[4 * pixel + 2];
  for (let pixel = 0; pixel < width * height; pixel++) {
    counts.set(at(pixel), (counts.get(at(pixel)) || 0) + 1);
  }
  const palette = [...counts].sort((a, b) => b[1] - a[1]).slice(0, most).map(([colour]) => colour);
  const nearest = new Map(), parts = (colour) => [colour >> 16, (colour >> 8) & 255, colour & 255];
  const distance = (one, other) => {
    const [first, second] = [parts(one), parts(other)];
    return first.reduce((sum, part, at) => sum + (part - second[at]) ** 2, 0);
  };
  for (const colour of counts.keys()) {
    let best = 0;
    palette.forEach((each, index) => {
      if (distance(each, colour) < distance(palette[best], colour)) best = index;
    });
    nearest.set(colour, best);
  }
  const rows = [];
  for (let y = 0; y < height; y++) {
    let row = "\\0";
    for (let x = 0; x < width; x++) row += String.fromCharCode(nearest.get(at(y * width + x)));
    rows.push(row);
  }
  return { width, height, palette, pixels: btoa(rows.join("")) };
}"""


def small(context: BrowserContext, png: bytes) -> bytes:
    """The same picture with COLOURS colours."""
    page = context.new_page()
    found = page.evaluate(REDUCE, [base64.b64encode(png).decode(), COLOURS])
    page.close()
    header = struct.pack(">IIBBBBB", found["width"], found["height"], 8, 3, 0, 0, 0)  # 8 bits, a palette
    palette = b"".join(colour.to_bytes(3, "big") for colour in found["palette"])
    pixels = zlib.compress(base64.b64decode(found["pixels"]), 9)
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

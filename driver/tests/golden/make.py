#!/usr/bin/env python3
"""Writes the golden headers of this directory from the field table of docs/format.md.

Hand-assembled: field by field with struct.pack, with nothing of ubdlab's code. Run it in
this directory; it writes the same bytes every time. Each file is a header with the bitmap
of a device of 64 sectors behind it, at the bitmap's place, with sectors 1, 8 and 63 dirty.
"""

import struct

MAGIC = 0x4F4F4F4D
MTIME = 1_060_000_000  # 4 August 2003
SIZE = 64 * 512
BITMAP = bytes([0b10, 0b1, 0, 0, 0, 0, 0, 0b1000_0000])
PATH = b"/srv/uml/root.img"


def path(length):
    return PATH + bytes(length - len(PATH))


def write(name, header, bitmap_offset):
    with open(name, "wb") as file:
        file.write(header.ljust(bitmap_offset, b"\0") + BITMAP)


def v1(order):
    # magic, version, path[256], mtime, size, sectorsize; native endian, packed
    return (
        struct.pack(order + "II", MAGIC, 1)
        + path(256)
        + struct.pack(order + "IQI", MTIME, SIZE, 512)
    )


write("v1-little-endian.bin", v1("<"), 280)
write("v1-big-endian.bin", v1(">"), 280)

# magic, version, path[4096], mtime, size, sectorsize; big endian, packed
v2 = struct.pack(">II", MAGIC, 2) + path(4096) + struct.pack(">IQI", MTIME, SIZE, 512)
write("v2.bin", v2, 4120)

# magic, version, mtime, size, sectorsize, alignment, format, path[4096]; big endian, packed
v3 = struct.pack(">IIIQIII", MAGIC, 3, MTIME, SIZE, 512, 4096, 0) + path(4096)
write("v3.bin", v3, 8192)

# The same as a 64-bit compiler laid it out: mtime in the first half of an 8-byte slot, and
# 4 bytes of padding at the end.
wide = struct.pack(">III", MAGIC, 3, MTIME) + bytes(4)
wide += struct.pack(">QIII", SIZE, 512, 4096, 0) + path(4096) + bytes(4)
write("v3-64-bit.bin", wide, 8192)

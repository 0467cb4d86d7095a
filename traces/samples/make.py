#!/usr/bin/env python3
"""Makes the binary and the compressed samples in this directory, field by field.

Everything in them is made up here; the layouts are those in docs/traces.md."""

import gzip
import os
import struct
import subprocess

os.chdir(os.path.dirname(os.path.abspath(__file__)))

# blktrace: what happened, and above it what kind of request it happened to.
QUEUE, ISSUE, COMPLETE, GETRQ = 1, 7, 8, 4
READ, WRITE, FLUSH, SYNC, NOTIFY, DISCARD, FUA = (1 << bit for bit in (0, 1, 2, 3, 10, 13, 15))
WRITE_ZEROES = 1 << 22
DEVICE = 8 << 20 | 16


def blktrace(order, version, seq, time, sector, length, event, kind, cpu, extra=b""):
    action, magic = event | kind << 16, 0x65617400 | version
    if version == 7:
        head = struct.pack(order + "IIQQIIIIIHH", magic, seq, time, sector, length, action, 697, DEVICE, cpu, 0, len(extra))
    else:
        head = struct.pack(order + "IIQQIIQIIHH12x", magic, seq, time, sector, length, 697, action, DEVICE, cpu, 0, len(extra))
    return head + extra


def cpu0(order, version):
    def record(*args):
        return blktrace(order, version, *args)
    text = record(1, 0, 0, 0, 0, NOTIFY, 0, b"kjournald\0\0\0")
    text += record(2, 1000, 2048, 4096, QUEUE, WRITE, 0)
    text += record(3, 1500, 2048, 4096, GETRQ, WRITE, 0)
    text += record(4, 2000, 2048, 4096, ISSUE, WRITE, 0)
    text += record(5, 9000, 2056, 512, QUEUE, WRITE | FLUSH | FUA | SYNC, 0)
    text += record(6, 9500, 0, 0, ISSUE, READ | FLUSH, 0)
    text += record(7, 10000, 2056, 512, ISSUE, WRITE | FUA | SYNC, 0)
    text += record(8, 40000, 2048, 4096, COMPLETE, WRITE, 0)
    if version == 8:
        text += record(9, 50000, 8192, 65536, ISSUE, WRITE | WRITE_ZEROES, 0)
    return text


def cpu1(order, version):
    def record(*args):
        return blktrace(order, version, *args)
    text = record(1, 1800, 64, 131072, QUEUE, READ, 1)
    text += record(2, 1900, 64, 131072, ISSUE, READ, 1, b"a driver's own")
    text += record(3, 30000, 4096, 1048576, ISSUE, DISCARD | WRITE, 1)
    return text


def save(name, content):
    with open(name, "wb") as file:
        file.write(content)


save("v7-little.blktrace.0", cpu0("<", 7))
save("v7-little.blktrace.1", cpu1("<", 7))
save("v7-big.blktrace", cpu0(">", 7))
save("v8-little.blktrace", cpu0("<", 8))
save("v8-big.blktrace", cpu0(">", 8))


def vscsi1(serial, length, command, block, time):
    return struct.pack("<IIIHHQQ", serial, length, 1, command, 0x0107, block, time)


def vscsi2(serial, length, command, block, time):
    return struct.pack("<HHIIIQQQ", command, 0x0200, serial, length, 1, block, time, 5)


for name, record in ("vscsi-1.bin", vscsi1), ("vscsi-2.bin", vscsi2):
    save(name, record(1, 4096, 0x28, 5000, 1000000) + record(2, 512, 0x2A, 2**32 + 1, 1000001)
         + record(3, 0, 0x35, 0, 1000100) + record(4, 8192, 0x8A, 16, 1000050))


def log_writes(block, entries):
    text = struct.pack("<QQQI", 0x6A736677736872, 1, len(entries), block).ljust(block, b"\0")
    for sector, blocks, flags, data, mark in entries:
        text += (struct.pack("<QQQQ", sector, blocks, flags, len(mark)) + mark).ljust(block, b"\0") + data
    return text


LOG_FLUSH, LOG_FUA, LOG_DISCARD, LOG_MARK, LOG_METADATA = 1, 2, 4, 8, 16
ENTRIES = [
    (0, 2, 0, 2, b"", b"first write"),
    (0, 0, LOG_MARK, 0, b"mkfs", b""),
    (8, 1, LOG_FLUSH | LOG_FUA | LOG_METADATA, 1, b"", b"a commit block"),
    (0, 0, LOG_FLUSH, 0, b"", b""),
    (1, 1, 0, 1, b"", b"written again"),
    (16, 32, LOG_DISCARD, 0, b"", b""),
]


def entries(block):
    for sector, blocks, flags, data, mark, text in ENTRIES:
        yield sector, blocks, flags, (text * (data * block))[: data * block], mark


save("log-writes-512.bin", log_writes(512, list(entries(512))))
save("log-writes-4096.bin", log_writes(4096, list(entries(4096))))

with open("msr.csv", "rb") as file:
    plain = file.read()
lines = plain.splitlines(keepends=True)
# Two members, as from appending one file to another.
save("msr.csv.gz", b"".join(gzip.compress(part, mtime=0) for part in (lines[0], b"".join(lines[1:]))))
subprocess.run(["zstd", "-q", "-f", "msr.csv", "-o", "msr.csv.zst"], check=True)

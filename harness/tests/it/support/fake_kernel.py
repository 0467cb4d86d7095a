#!/usr/bin/env python3
"""A kernel that is none: it comes up, gets its device, and then does what its name says."""
import itertools, json, os, select, socket, struct, sys

act = os.path.basename(sys.argv[0])
boots = sys.argv[0] + ".boots"
with open(boots, "ab") as counted:
    counted.write(b".")
if act == "comes-up-once-and-dies" and os.path.getsize(boots) > 1:
    sys.exit("no memory is left")

directory = [it[len("uml_dir="):] for it in sys.argv if it.startswith("uml_dir=")][0]
directory = os.path.join(directory, "guest")
os.makedirs(directory, exist_ok=True)
path = os.path.join(directory, "mconsole")
if os.path.exists(path):
    os.unlink(path)
console = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
console.bind(path)


def frame(text):
    os.write(1, b"\x02ubdlab %08x\n" % len(text) + text)


def say(word):
    frame(json.dumps({"word": word}).encode())


def for_ever(do):
    for number in itertools.count():
        do()
        if number == 10:
            open(sys.argv[0] + ".goes-on", "w").close()


def live(cow):
    if act == "comes-up-once-and-dies":
        sys.exit("it dies")
    elif act == "is-broken":
        say({"broken": {"why": "it has no thread left"}})
    elif act == "submits-what-nobody-asked-for":
        say({"submitted": {"number": 7}})
    elif act == "says-what-is-no-json":
        frame(b"{nothing")
    elif act == "writes-for-ever":
        file = os.open(cow, os.O_RDWR)
        for_ever(lambda: os.pwrite(file, b"x" * 65536, 1 << 23))
    elif act == "reads-for-ever":
        file = os.open(cow, os.O_RDONLY)
        for_ever(lambda: os.pread(file, 512, 0))
    elif act == "prints-for-ever":
        for_ever(lambda: os.write(1, b"x" * 65536))


say("ready")
cow = None
while True:
    for ready in select.select([console, 0], [], [])[0]:
        if ready is console:
            asked, sender = console.recvfrom(4096)
            text = asked[12:].rstrip(b"\0").decode()
            if text.startswith("config "):
                cow = text.split("=", 1)[1].split(",")[0]
            console.sendto(struct.pack("=III", 0, 0, 5) + b"fake\0", sender)
        elif not os.read(0, 65536):
            sys.exit(0)
        elif cow:
            live(cow)
            cow = None

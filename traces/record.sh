#!/bin/bash
# Records the traces in this directory again, from real workloads.
#
#     sudo traces/record.sh [--keep-raw DIR] [--scratch DIR] [WORKLOAD...]
#
# Without names, all workloads are recorded: see `workload_*` below. Each runs on
# a fresh image of its own behind a loop device, while the kernel's tracefs notes
# what the file system queues on that device and on no other. The text is then
# converted to traces/NAME.ubdtrace, replacing the file that was there.
#
#   --keep-raw DIR   also keep the ftrace text, as DIR/NAME.ftrace
#   --scratch DIR    where the images go (default: the system's temporary files);
#                    600 MiB are enough
#
# Needs: root, Linux with loop devices, tracefs and the file systems, and
# losetup, e2fsprogs, xfsprogs, btrfs-progs, sqlite3, git, cc, ar, tar. Variables:
#
#   SOURCE_TREE      the files that are copied, unpacked and committed (default:
#                    the sources of the crates in Cargo.lock, as cargo fetched them)
#   UBDLAB           the converter (default: cargo run --release --quiet --)
#
# Everything that it sets up (mount, loop device, tracing instance, temporary
# files) is taken down again, also after an error or an interrupt.
#
# Why block_bio_queue and not block_rq_issue: a loop device has a write cache but
# no FUA, so by the time of block_rq_issue the block layer has turned each
# preflush and FUA into flushes of their own. block_bio_queue shows what the file
# system asked for, and that is what another driver will be asked.

set -euo pipefail
exec </dev/null
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
tracing=/sys/kernel/tracing
event=block_bio_queue
all_workloads="ext4-unpack sqlite-wal xfs-copy btrfs-snapshot git-build direct-random"

die() { echo "record.sh: $*" >&2; exit 3; }

keep_raw='' scratch=${TMPDIR:-/tmp} names=''
while [ $# -gt 0 ]; do
    case $1 in
        --keep-raw) keep_raw=${2:?--keep-raw needs a directory}; shift 2 ;;
        --scratch) scratch=${2:?--scratch needs a directory}; shift 2 ;;
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) echo "record.sh: unknown option $1" >&2; exit 2 ;;
        *) names="$names $1"; shift ;;
    esac
done
names=${names:-$all_workloads}
for name in $names; do
    case " $all_workloads " in
        *" $name "*) ;;
        *) echo "record.sh: no workload $name; there are: $all_workloads" >&2; exit 2 ;;
    esac
done

[ "$(id -u)" = 0 ] || die "must run as root, for loop devices and tracefs"
for tool in losetup mkfs.ext4 mkfs.xfs mkfs.btrfs sqlite3 git cc ar tar fstrim; do
    command -v "$tool" >/dev/null || die "$tool is not installed"
done

mounted_tracefs='' instance='' work='' loop='' mounted='' source_tree=''

release_device() {
    if [ -n "$mounted" ]; then umount "$mounted" || umount -l "$mounted"; mounted=''; fi
    if [ -n "$loop" ]; then losetup -d "$loop"; loop=''; fi
}
clean_up() {
    set +e
    if [ -n "$instance" ]; then
        echo 0 >"$instance/events/block/$event/enable"
        release_device
        rmdir "$instance"
    fi
    if [ -n "$mounted_tracefs" ]; then umount "$tracing"; fi
    if [ -n "$work" ]; then rm -rf "$work" "$work.tree"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if [ ! -d "$tracing/instances" ]; then
    mount -t tracefs none "$tracing" || die "cannot mount tracefs at $tracing"
    mounted_tracefs=yes
fi
work=$(mktemp -d "$scratch/ubdlab-record.XXXXXX")
if [ -n "${SOURCE_TREE:-}" ]; then
    source_tree=$SOURCE_TREE
else
    # Only what Cargo.lock names: the registry also has what other projects use.
    # The crates for Windows are left out, they are larger than all the others.
    source_tree=$work.tree
    mkdir "$source_tree"
    awk -F'"' '/^name = /{ name = $2 } /^version = /{ if (name !~ /^windows/) print name "-" $2 }' "$here/../Cargo.lock" |
        while read -r each; do
            find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -mindepth 2 -maxdepth 2 -name "$each" \
                -exec cp -r {} "$source_tree/" \;
        done
fi
[ -n "$(ls -A "$source_tree")" ] || die "no files in $source_tree: run cargo fetch, or set SOURCE_TREE"
# An instance is a buffer of our own: whoever else is tracing is not disturbed.
instance=$tracing/instances/ubdlab-record.$$
mkdir "$instance"
echo mono >"$instance/trace_clock"
echo 0 >"$instance/options/overwrite"
echo 65536 >"$instance/buffer_size_kb"

# --- Workloads. Each gets the device in $device and an empty directory to mount
# it at in $target; what is prepared before `start_tracing` is not recorded.

# A tree is unpacked on a new ext4, half of it deleted, some of it read back
# after a remount, and other files take the freed place.
workload_ext4_unpack() {
    image 256
    tar -C "$source_tree" -cf "$work/tree.tar" .
    start_tracing "ext4 with -o discard: mkfs, unpack a source tree, delete half, remount, read, unpack again"
    mkfs.ext4 -q -F -E discard "$device"
    mount_device -t ext4 -o discard
    mkdir "$target/tree"
    tar -C "$target/tree" -xf "$work/tree.tar"
    sync -f "$target"
    (cd "$target/tree" && for each in [a-p]*; do rm -rf "$each"; sync -f .; done)
    unmount_device
    mount_device -t ext4 -o discard
    find "$target/tree" -type f -name '*.rs' -exec cat {} + >/dev/null
    mkdir "$target/again"
    tar -C "$target/again" -xf "$work/tree.tar"
    unmount_device
}

# A database with a write-ahead log, synced at every commit, as a server has it:
# small transactions, checkpoints, updates in random places, deletes, VACUUM.
workload_sqlite_wal() {
    image 256
    start_tracing "SQLite with WAL and synchronous=FULL on ext4: 3000 transactions, checkpoints, VACUUM"
    mkfs.ext4 -q -F "$device"
    mount_device -t ext4
    # LCG instead of random(), so that the transactions are the same each time.
    {
        echo "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=250;"
        echo "CREATE TABLE account(id INTEGER PRIMARY KEY, name TEXT, balance INTEGER, note BLOB);"
        echo "CREATE INDEX account_name ON account(name);"
        local i state=1
        for ((i = 1; i <= 3000; i++)); do
            state=$(((state * 1103515245 + 12345) & 0x7fffffff))
            case $((i % 5)) in
                0) echo "UPDATE account SET balance = balance + 1 WHERE id % 97 = $((state % 97));" ;;
                1) echo "DELETE FROM account WHERE id = $((state % i + 1));" ;;
                *)
                    echo "BEGIN;"
                    local j
                    for ((j = 0; j < 4; j++)); do
                        echo "INSERT INTO account(name, balance, note) VALUES" \
                            "('name$((state % 99991 + j))', $state, zeroblob($((state % 3000 + 100))));"
                    done
                    echo "COMMIT;"
                    ;;
            esac
        done
        echo "PRAGMA wal_checkpoint(TRUNCATE); VACUUM; SELECT count(*) FROM account;"
    } >"$work/transactions.sql"
    sqlite3 "$target/bank.db" <"$work/transactions.sql" >/dev/null
    unmount_device
    mount_device -t ext4
    sqlite3 "$target/bank.db" "PRAGMA integrity_check; SELECT sum(balance) FROM account;" >/dev/null
    unmount_device
}

# Files arrive one by one, each synced and renamed into place, as a careful
# program saves them; then much is deleted and the free space trimmed.
workload_xfs_copy() {
    image 320
    start_tracing "XFS: mkfs, copy a source tree, files saved by fsync and rename, delete, fstrim"
    mkfs.xfs -q -f "$device"
    mount_device -t xfs
    cp -r "$source_tree" "$target/tree"
    local file count=0
    while read -r file; do
        dd if="$file" of="$target/saved.tmp" bs=64k conv=fsync status=none
        mv "$target/saved.tmp" "$target/saved.$((count % 300))"
        count=$((count + 1))
    done < <(find "$source_tree" -type f -name '*.rs' | sort | head -n 1200)
    rm -rf "$target/tree"
    sync -f "$target"
    fstrim "$target"
    cp -r "$source_tree" "$target/second"
    unmount_device
}

# Copy on write upon copy on write: a subvolume, snapshots of it, changes below
# them, synced writes (the log tree), a snapshot deleted, discards.
workload_btrfs_snapshot() {
    image 512
    start_tracing "btrfs with -o discard=sync: mkfs, copy a source tree, snapshots, fsyncs, deletes, fstrim"
    mkfs.btrfs -q -f "$device"
    mount_device -t btrfs -o discard=sync
    btrfs -q subvolume create "$target/work"
    cp -r "$source_tree" "$target/work/tree"
    local round file
    for round in 1 2 3; do
        btrfs -q subvolume snapshot -r "$target/work" "$target/snapshot$round"
        # dd truncates and writes again in place: btrfs puts it elsewhere.
        while read -r file; do
            dd if=/dev/urandom of="$target/work/tree/$file" bs=16k count=1 conv=fsync status=none
        done < <(cd "$target/work/tree" && find . -type f -name '*.rs' | sort | awk "NR % 9 == $round" | head -n 200)
        (cd "$target/work/tree" && rm -rf [c-h]*"$round"*)
        sync -f "$target"
    done
    btrfs -q subvolume delete -C "$target/snapshot1"
    btrfs filesystem sync "$target"
    fstrim "$target"
    unmount_device
}

# What a developer does: clone, check out an older state, build, change, commit.
workload_git_build() {
    image 384
    git_() { git -c user.name=record -c user.email=record@example.org -c init.defaultBranch=main -c gc.auto=0 "$@"; }
    mkdir "$work/origin"
    git_ -C "$work/origin" init -q
    local each
    for each in "$source_tree"/*; do
        cp -r "$each" "$work/origin/"
        git_ -C "$work/origin" add -A -f
        git_ -C "$work/origin" commit -q -m "Add $(basename "$each")"
    done
    local sources
    sources=$(cd "$work/origin" && ls -d zstd-sys-*/zstd/lib | head -n 1)
    [ -n "$sources" ] || die "the source tree has no zstd-sys-*/zstd/lib to build"
    start_tracing "ext4: git clone with fsync, checkouts, build of a C library with cc, commit, git gc"
    mkfs.ext4 -q -F "$device"
    mount_device -t ext4
    git_ clone -q --no-local -c core.fsync=all "file://$work/origin" "$target/clone"
    (
        cd "$target/clone"
        git_ checkout -q HEAD~20
        git_ checkout -q main
        mkdir build
        local file
        for file in "$sources"/*/*.c; do
            TMPDIR=$target cc -O1 -DZSTD_DISABLE_ASM -I"$sources" -c "$file" -o "build/$(basename "$file" .c).o"
        done
        TMPDIR=$target ar rcs build/libzstd.a build/*.o
        local i
        for i in 1 2 3 4 5 6 7 8 9 10; do
            git_ mv "$sources/common" "$sources/common$i" && git_ mv "$sources/common$i" "$sources/common"
            echo "$i" >"change$i"
            git_ add "change$i"
            git_ commit -q -m "Change $i"
        done
        sync -f .
        git_ gc -q
        rm -rf build
    )
    unmount_device
    mount_device -t ext4
    git_ -C "$target/clone" status >/dev/null
    unmount_device
}

# No file system at all: reads, synced and unsynced writes, write-zeroes and discards
# at random places. The one mix that is made up, so that all of them occur often.
workload_direct_random() {
    image 256
    start_tracing "raw device, O_DIRECT: random reads and writes of 4 to 64 KiB, O_DSYNC writes, discards, write-zeroes"
    local i state=7 place size
    for ((i = 1; i <= 6000; i++)); do
        state=$(((state * 1103515245 + 12345) & 0x7fffffff))
        place=$(((state >> 8) % 65520))
        size=$((1 << ((state >> 4) % 5)))
        case $((i % 20)) in
            0) dd if=/dev/zero of="$device" bs=4k seek=$place count=$size oflag=direct,dsync conv=notrunc status=none ;;
            1) discard -o $((place * 4096)) -l $((size * 4096)) ;;
            2) discard -z -o $((place * 4096)) -l $((size * 4096)) ;;
            3 | 4 | 5 | 6 | 7 | 8 | 9 | 10) dd if="$device" of=/dev/null bs=$((size * 4))k skip=$((place / size)) count=1 iflag=direct status=none ;;
            11) dd if=/dev/zero of="$device" bs=4k seek=$place count=1 oflag=direct conv=notrunc,fsync status=none ;;
            *) dd if=/dev/zero of="$device" bs=$((size * 4))k seek=$((place / size)) count=1 oflag=direct conv=notrunc status=none ;;
        esac
    done
}

# --- The machinery.

# -f, because otherwise each call first reads the device in search of a signature.
discard() { blkdiscard -f "$@" "$device" 2>"$work/discard.log" || { cat "$work/discard.log" >&2; return 1; }; }

image() { # MEBIBYTES
    truncate -s "$1M" "$work/image"
    loop=$(losetup -f --show "$work/image")
    device=$loop
    target=$work/mnt
    mkdir -p "$target"
}

mount_device() { mount "$@" "$device" "$target"; mounted=$target; }
unmount_device() { umount "$mounted"; mounted=''; }

start_tracing() { # DESCRIPTION
    description=$1
    local major minor
    # The filter wants the kernel's own dev_t: 12 bits of major, 20 of minor.
    major=$((0x$(stat -c %t "$device"))) minor=$((0x$(stat -c %T "$device")))
    : >"$instance/trace"
    echo "dev == $(((major << 20) | minor))" >"$instance/events/block/$event/filter"
    echo 1 >"$instance/events/block/$event/enable"
}

stop_tracing() { # OUTPUT
    echo 0 >"$instance/events/block/$event/enable"
    local lost
    lost=$(cat "$instance"/per_cpu/cpu*/stats | awk '/^(overrun|dropped events)/ { sum += $NF } END { print sum + 0 }')
    [ "$lost" = 0 ] || die "the kernel lost $lost events; raise buffer_size_kb"
    {
        # The converter takes these two lines into the header of its output.
        echo "# ubdlab: device_size_sectors=$(blockdev --getsz "$device")"
        echo "# ubdlab: description=$description; Linux $(uname -r | cut -d- -f1), $event"
        cat "$instance/trace"
    } >"$1"
}

for name in $names; do
    echo "== $name" >&2
    "workload_${name//-/_}"
    stop_tracing "$work/$name.ftrace"
    release_device
    if [ -n "$keep_raw" ]; then mkdir -p "$keep_raw"; cp "$work/$name.ftrace" "$keep_raw/"; fi
    echo "$(grep -c "$event:" "$work/$name.ftrace") events" >&2
    grep -o "$event: [0-9,]* [A-Z]*" "$work/$name.ftrace" | awk '{ print $3 }' | sort | uniq -c >&2
    (cd "$here/.." && ${UBDLAB:-cargo run --release --quiet --} trace convert "$work/$name.ftrace" "$work/$name.ubdtrace")
    mv "$work/$name.ubdtrace" "$here/$name.ubdtrace"
    find "$work" -mindepth 1 -delete
done

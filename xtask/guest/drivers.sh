# Storage drivers that the build machine's kernel may not have: device mapper, EROFS by loop devices, project quotas.
# Sourced by the tests' side of the virtual machine.

export PATH=/bin:/usr/sbin

# start <data root> <flags…>: a daemon of its own for one driver
start() {
    root=$1; shift
    export DOCKER_HOST=unix:///run/d.sock
    rm -f /run/d.sock /run/d.pid
    /wharf daemon --data-root $root --exec-root /run/d -p /run/d.pid -H $DOCKER_HOST --bridge none --iptables=false --ip6tables=false \
        --ip-forward=false "$@" >>/tmp/drivers.log 2>&1 &
    daemon=$!
    n=0
    until [ -S /run/d.sock ] || [ $n -gt 300 ]; do n=$((n + 1)); usleep 100000; done
}
stop() { kill $daemon; wait $daemon 2>/dev/null; }

# suite <what> <driver>: what every driver must do, on the daemon that runs
suite() {
    what=$1
    /wharf load -q -i /busybox.tar >/dev/null || failed=1
    is "$what: the driver" $2 "$(/wharf info --format '{{.Driver}}')"
    is "$what: a container writes" 'mine' "$(/wharf run --network none --name one $image sh -c 'cat /new/x 2>/dev/null || { echo mine >/etc/passwd; rm /bin/ls; mkdir /new; echo x >/new/x; ln /new/x /new/y; }; cat /etc/passwd')"
    is "$what: apart from the next" '' "$(run $image grep mine /etc/passwd)"
    is "$what: changes" 'A /new,A /new/x,A /new/y,C /etc/passwd,D /bin/ls' "$(echo $(/wharf diff one | grep -v -e '^C /etc$' -e '^C /bin$' | sort) | sed 's/ \([ACD]\) /,\1 /g')"
    is "$what: sizes" '7B' "$(/wharf ps -as --format '{{.Size}}' | cut -d' ' -f1)"
    /wharf commit one committed >/dev/null || failed=1
    is "$what: a commit" 'mine 2 gone' "$(echo $(run committed sh -c 'cat /etc/passwd; stat -c %h /new/x; [ -e /bin/ls ] || echo gone'))"
    is "$what: an export" 'new/x' "$(/wharf export one | tar -t | grep new/x)"
    echo in >/tmp/in; /wharf cp /tmp/in one:/in 2>/dev/null
    is "$what: a copy in and out" in "$(/wharf cp one:/in - | tar -xO in)"
    id=$(/wharf image inspect -f '{{.Id}}' committed)
    /wharf save -o /tmp/committed.tar committed 2>/dev/null
    kill -9 $daemon; wait $daemon 2>/dev/null
    start $root $flags
    is "$what: after a kill" 'x mine' "$(echo $(/wharf start -a one))"
    /wharf rm -f one >/dev/null; /wharf rmi committed >/dev/null
    /wharf load -q -i /tmp/committed.tar >/dev/null
    is "$what: saved and loaded" "$id" "$(/wharf image inspect -f '{{.Id}}' committed)"
    is "$what: the copy runs" mine "$(run committed cat /etc/passwd)"
    /wharf system check >/tmp/check 2>&1 || { cat /tmp/check; failed=1; }
    /wharf rmi committed >/dev/null
}

# full <what> <flags…>: how many MiB of 64 a container can write, rounded to tens
full() {
    what=$1; expected=$2; shift; shift
    wrote=$(run "$@" $image sh -c 'dd if=/dev/zero of=/fill bs=1M count=64 2>/dev/null; stat -c %s /fill')
    is "$what" "$expected" "$(((wrote + 5242880) / 10485760))"
}

log() { [ $failed = 0 ] || { echo '--- daemon'; tail -30 /tmp/drivers.log; }; }

mkdir -p /thin /quota
mount -t tmpfs thin /thin
truncate -s 600M /thin/disk; mkfs.ext4 -q -O project,quota /thin/disk
mount -t ext4 -o loop,prjquota /thin/disk /quota
flags='--storage-driver overlay2'
start /quota/data $flags
/wharf load -q -i /busybox.tar >/dev/null
full 'ext4 project quota' 2 --storage-opt size=20m
full 'no quota' 6
stop
flags='--storage-driver erofs --storage-opt erofs.size=30m'
start /quota/erofs $flags
suite 'erofs by loop devices' erofs
full 'erofs with a quota' 3
stop
is 'no layer stays mounted' 0 "$(grep -c erofs /proc/mounts)"
umount /quota; rm /thin/disk
truncate -s 400M /thin/disk; mkfs.xfs -q /thin/disk
mount -t xfs -o loop,pquota /thin/disk /quota
flags='--storage-driver overlay2 --storage-opt overlay2.size=30m'
start /quota/data $flags
/wharf load -q -i /busybox.tar >/dev/null
full 'XFS project quota for all' 3
full 'XFS project quota of one' 1 --storage-opt size=13m
stop
umount /quota; rm /thin/disk
small='--storage-opt dm.loopdatasize=1g --storage-opt dm.loopmetadatasize=16m --storage-opt dm.basesize=300m'
for fs in ext4 xfs; do
    flags="--storage-driver devicemapper $small --storage-opt dm.fs=$fs"
    start /thin/$fs $flags
    if [ $fs = ext4 ]; then suite "devicemapper on $fs" devicemapper; else /wharf load -q -i /busybox.tar >/dev/null; fi
    is "devicemapper on $fs: a larger device" 1 "$(run --storage-opt size=400m $image df -m / | awk 'END { print ($2 > 320) }')"
    is "devicemapper on $fs: no smaller one" 1 "$(run --storage-opt size=100m $image true 2>&1 | grep -c 'cannot be smaller')"
    is "devicemapper on $fs: the pool" "$fs 1" "$(/wharf info 2>/dev/null | sed -n 's/.*Backing Filesystem: //p') $(/wharf info 2>/dev/null | grep -c 'Pool Name: wharf-')"
    stop
    is "devicemapper on $fs: no layer stays mounted" 0 "$(grep -c /thin/$fs/ /proc/mounts)"
done
log

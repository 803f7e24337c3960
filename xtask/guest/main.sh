# The tests' side of the virtual machine: process 1, in a tmpfs. Says how they ended in a line that `cargo xtask guest` looks for.
export PATH=/bin RUST_BACKTRACE=0 CI=true HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
for module in /modules/*.ko; do insmod "$module"; done
cat /proc/version
failed=0

/launch || failed=1

# The engine as a whole, without a network of its own.
export DOCKER_HOST=unix:///run/w.sock
mkdir -p /run /disk
mount -t tmpfs disk /disk
/wharf daemon --data-root /disk/data --exec-root /run/w -p /run/w.pid -H $DOCKER_HOST --bridge none --iptables=false --ip6tables=false \
    --ip-forward=false --cdi-spec-dir /cdi >/tmp/daemon.log 2>&1 &
n=0
until [ -S /run/w.sock ] || [ $n -gt 300 ]; do n=$((n + 1)); usleep 100000; done

run() { /wharf run --rm --network none "$@"; }
image=busybox:latest
/wharf load -q -i /busybox.tar || failed=1

# is <what> <expected> <got>
is() {
    if [ "$2" = "$3" ]; then echo "ok: $1"; else echo "FAILED: $1: expected '$2', got '$3'"; failed=1; fi
}
# cgroup <file> <flags…>: the file as the container sees it
cgroup() { file=$1; shift; run "$@" $image cat "/sys/fs/cgroup/$file"; }

is 'memory' 67108864 "$(cgroup memory.max -m 64m)"
is 'swap beside memory' 67108864 "$(cgroup memory.swap.max -m 64m)"
is 'reservation' 33554432 "$(cgroup memory.low -m 64m --memory-reservation 32m)"
is 'cpus' '50000 100000' "$(cgroup cpu.max --cpus 0.5)"
is 'quota and period' '5000 20000' "$(cgroup cpu.max --cpu-quota 5000 --cpu-period 20000)"
is 'shares' 20 "$(cgroup cpu.weight --cpu-shares 512)"
is 'cpuset' 1 "$(cgroup cpuset.cpus --cpuset-cpus 1)"
is 'memory nodes' 0 "$(cgroup cpuset.mems --cpuset-mems 0)"
is 'pids' 42 "$(cgroup pids.max --pids-limit 42)"
is 'write throttle' '1048576' "$(cgroup io.max --device-write-bps /dev/nullb0:1mb | sed 's/.*wbps=\([0-9a-z]*\).*/\1/')"
is 'read operations' '100' "$(cgroup io.max --device-read-iops /dev/nullb0:100 | sed 's/.*riops=\([0-9a-z]*\).*/\1/')"
is 'keys by name' 12345344 "$(cgroup memory.high --cgroup-conf memory.high=12345344)"
is 'huge pages' 4194304 "$(cgroup hugetlb.2MB.max --hugepage-limit 2MB=4194304)"
is 'a view of its own' '0::/' "$(run $image cat /proc/self/cgroup)"
is 'the host view' "$(/wharf info --format '{{.CgroupVersion}}')" 2
is 'pressure is counted' 2 "$(cgroup memory.pressure | grep -c avg10)"

# What happens to who exceeds them.
id=$(/wharf run -d --network none -m 16m --memory-swap 16m $image sh -c 'head -c 200m /dev/zero | tail >/dev/null; sleep 1000')
n=0
until [ "$(/wharf inspect --format '{{.State.OOMKilled}}' $id)" = true ] || [ $n -gt 100 ]; do n=$((n + 1)); usleep 200000; done
is 'a memory hog is reported' true "$(/wharf inspect --format '{{.State.OOMKilled}}' $id)"
/wharf update --pids-limit 9 --cpus 0.25 -m 32m --memory-swap 32m $id >/dev/null
is 'limits change live' '9 25000 100000 33554432' "$(/wharf exec $id sh -c 'cd /sys/fs/cgroup; echo $(cat pids.max cpu.max memory.max)')"
is 'a fork bomb stops' 1 "$(/wharf exec $id sh -c 'i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done' 2>&1 | grep -c -m1 fork)"
/wharf rm -f $id >/dev/null

id=$(/wharf run -d --network none --cpus 0.2 $image sh -c 'while :; do :; done')
used() { sed -n 's/^usage_usec //p' /sys/fs/cgroup/docker/$id/cpu.stat; }
a=$(used); usleep 2000000; b=$(used)
share=$(((b - a) / 20000))
if [ $share -ge 14 ] && [ $share -le 26 ]; then echo "ok: a processor hog gets $share % of 20"; else echo "FAILED: a processor hog got $share % of 20"; failed=1; fi
/wharf pause $id >/dev/null
is 'frozen' 1 "$(cat /sys/fs/cgroup/docker/$id/cgroup.freeze)"
a=$(used); usleep 500000
is 'no progress' "$a" "$(used)"
/wharf unpause $id >/dev/null
/wharf rm -f $id >/dev/null

slow() { run --device /dev/nullb0 --device-write-bps /dev/nullb0:$1 $image sh -c 'dd if=/dev/zero of=/dev/nullb0 bs=256k count=16 oflag=direct 2>/dev/null; cut -d. -f1 /proc/uptime'; }
a=$(cut -d. -f1 /proc/uptime); b=$(slow 2mb)
if [ $((b - a)) -ge 2 ]; then echo "ok: 4 MB at 2 MB/s took $((b - a)) s"; else echo "FAILED: 4 MB at 2 MB/s took $((b - a)) s"; failed=1; fi

# Devices, by the program in the kernel.
kmsg='mknod /k c 1 11 && head -c 1 /k >/dev/null 2>&1 && echo read; (echo x >/k) 2>/dev/null && echo written; true'
is 'no device but the usual' '' "$(run $image sh -c "$kmsg")"
is 'a rule for reading' read "$(run --device-cgroup-rule 'c 1:11 r' --cap-add SYSLOG $image sh -c "$kmsg")"
is 'privileged' 'read written' "$(echo $(run --privileged $image sh -c "$kmsg"))"

# Networks on an interface of the host, and on VLANs of it.
ip link set lo up; ip link add eth9 type dummy; ip link set eth9 up
for network in 'ipvlan eth9 l2' 'ipvlan eth9.20 l3' 'macvlan eth9.30 bridge'; do
    set -- $network
    /wharf network create -d $1 -o parent=$2 -o $1_mode=$3 --subnet 10.50.0.0/24 net >/dev/null
    id=$(/wharf run -d --network net --ip 10.50.0.2 $image sleep 1000)
    is "$network" 1 "$(/wharf run --rm --network net $image ping -c1 -W5 10.50.0.2 | grep -c '1 packets received')"
    /wharf rm -f $id >/dev/null; /wharf network rm net >/dev/null
done
is 'interfaces are gone' '' "$(ls /sys/class/net | grep eth9.)"

# AppArmor.
is 'the default profile' 'docker-default (enforce)' "$(run $image cat /proc/self/attr/apparmor/current)"
is 'in execs too' 'docker-default (enforce)' "$(id=$(/wharf run -d --network none $image sleep 1000); /wharf exec $id cat /proc/self/attr/apparmor/current; /wharf rm -f $id >/dev/null)"
is 'unconfined' unconfined "$(run --security-opt apparmor=unconfined $image cat /proc/self/attr/apparmor/current)"
is 'privileged is unconfined' unconfined "$(run --privileged $image cat /proc/self/attr/apparmor/current)"
open='--cap-add ALL --security-opt seccomp=unconfined --security-opt systempaths=unconfined'
is 'no mounting' denied "$(run $open $image sh -c 'mount -t tmpfs x /tmp 2>/dev/null && echo mounted || echo denied')"
is 'no switches of the kernel' '' "$(run $open $image sh -c 'for f in kernel/core_pattern vm/swappiness fs/file-max; do (cat /proc/sys/$f >/tmp/v; cat /tmp/v >/proc/sys/$f) 2>/dev/null && echo $f; done; (echo h >/proc/sysrq-trigger) 2>/dev/null && echo sysrq; true')"
is 'its own files in proc' ok "$(run $image sh -c 'echo 1 >/proc/self/oom_score_adj && echo ok')"
is 'a profile that is not there' 1 "$(run --security-opt apparmor=none-such $image true 2>&1 | grep -c -m1 apparmor)"

. /volumes

# Scopes of systemd, in a container that is its own machine.
kill $(cat /run/w.pid)
cd /systemd
cp /busybox.tar image.tar
ln -s /wharf wharf-runtime
for name in sh cat cp grep ln mkdir rm sed sleep sort tr wc kill sync head tail; do ln -sf busybox merged/bin/$name; done
timeout -s KILL 120 /wharf oci-runtime --root /run/systemd-test run --bundle /systemd systemd >/tmp/systemd.log 2>&1 </dev/null
cat out
grep -q '^systemd: 0 failed$' out || { failed=1; echo 'FAILED: systemd'; tail -20 /tmp/systemd.log daemon.log; }
cd /

[ $failed = 0 ] || { echo '--- daemon'; tail -40 /tmp/daemon.log; }
. /drivers
echo "guest: exit code $failed"
poweroff -f

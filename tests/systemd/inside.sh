# What is tried under a systemd of our own: the OCI runtime with `--systemd-cgroup`, and an engine with the systemd cgroup driver.
# Needs /wharf-test/wharf, /wharf-test/busybox.tar and busybox. Says how each went, and in the last line how many went wrong.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
failed=0
# is <what> <expected> <got>
is() {
    if [ "$2" = "$3" ]; then echo "ok: $1"; else echo "FAILED: $1: expected '$2', got '$3'"; failed=$((failed + 1)); fi
}
# until_true <command…>: for ten seconds
until_true() {
    n=0
    until "$@" >/dev/null 2>&1 || [ $n -gt 200 ]; do n=$((n + 1)); sleep 0.05; done
}
# shown <unit> <property…>
shown() { unit=$1; shift; for p in "$@"; do systemctl show "$unit" --property="$p" --value; done | tr '\n' ' ' | sed 's/ $//'; }

until_true sh -c 'busctl --no-pager list | grep -q "systemd1  *1 "'
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then v=2; else v=1; fi
# group <controller> <below>: a group's directory
group() { if [ $v = 2 ]; then echo "/sys/fs/cgroup/$2"; else echo "/sys/fs/cgroup/$1/$2"; fi; }
# file <v1 controller/file> <v2 file> <group>
file() { if [ $v = 2 ]; then cat "/sys/fs/cgroup/$3/$2"; else cat "/sys/fs/cgroup/${1%/*}/$3/${1#*/}"; fi; }
if [ $v = 2 ]; then max=MemoryMax; else max=MemoryLimit; fi

# The OCI runtime.
runtime() { /wharf-test/wharf oci-runtime --root /tmp/state --systemd-cgroup "$@"; }
bundle=/tmp/bundle
mkdir -p $bundle/rootfs/bin $bundle/rootfs/proc $bundle/rootfs/dev $bundle/rootfs/sys
cp /bin/busybox $bundle/rootfs/bin/
for name in sh sleep cat; do ln -s busybox $bundle/rootfs/bin/$name; done
cat >$bundle/config.json <<'CONFIG'
{"ociVersion": "1.2.0", "root": {"path": "rootfs"},
 "process": {"cwd": "/", "args": ["sleep", "1000"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
 "annotations": {"org.systemd.property.TimeoutStopUSec": "uint64 7000000"},
 "linux": {"cgroupsPath": "wharf-test.slice:one:x", "namespaces": [{"type": "pid"}, {"type": "mount"}],
  "resources": {"memory": {"limit": 67108864}, "pids": {"limit": 42}, "cpu": {"quota": 20000, "period": 100000},
   "devices": [{"allow": false, "access": "rwm"}]}}}
CONFIG
runtime create --bundle $bundle x </dev/null
runtime start x
at=wharf.slice/wharf-test.slice/one-x.scope
is 'a scope in its slice' "/$at wharf-test.slice active" "$(shown one-x.scope ControlGroup Slice ActiveState)"
is 'limits as properties' '67108864 42 200ms yes 7s' "$(shown one-x.scope $max TasksMax CPUQuotaPerSecUSec Delegate TimeoutStopUSec)"
is 'limits in force' '67108864 42' "$(echo $(file memory/memory.limit_in_bytes memory.max $at) $(file pids/pids.max pids.max $at))"
pid=$(runtime state x | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
is 'in every hierarchy' 0 "$(grep -vc "$at\$" /proc/$pid/cgroup)"
runtime exec x sleep 999 >/dev/null 2>&1 </dev/null &
until_true sh -c "[ \$(wc -l <$(group pids $at)/cgroup.procs) = 2 ]"
is 'execs beside it' 0 "$(for p in $(cat $(group pids $at)/cgroup.procs); do cat /proc/$p/cgroup; done | grep -vc "$at\$")"
runtime update --memory 33554432 x
is 'an update reaches systemd' 33554432 "$(shown one-x.scope $max)"
systemctl daemon-reload
is 'limits outlive a reload' '33554432 42' "$(echo $(file memory/memory.limit_in_bytes memory.max $at) $(file pids/pids.max pids.max $at))"
if [ $v = 1 ]; then is 'and devices' 1 "$(grep -c '^c 1:3 rwm' /sys/fs/cgroup/devices/$at/devices.list)"; fi
runtime pause x
is 'frozen' paused "$(runtime state x | sed -n 's/.*"status": *"\([a-z]*\)".*/\1/p')"
runtime delete --force x
until_true sh -c '[ "$(systemctl show one-x.scope --property=LoadState --value)" = not-found ]'
is 'nothing is left' 'not-found gone' "$(shown one-x.scope LoadState) $([ -d "$(group memory $at)" ] || echo gone)"
is 'a path that is none of systemd' 1 "$(sed -i s,wharf-test.slice:one:x,/one/x, $bundle/config.json; runtime create --bundle $bundle x 2>&1 </dev/null | grep -c 'slice:prefix:name')"

# The engine.
export DOCKER_HOST=unix:///run/w.sock
daemon() { /wharf-test/wharf daemon --data-root /run/data --exec-root /run/x -p /run/w.pid -H $DOCKER_HOST --storage-driver vfs --bridge none --iptables=false --ip6tables=false --ip-forward=false --exec-opt native.cgroupdriver=systemd "$@"; }
is 'parents must be slices' 1 "$(daemon --cgroup-parent /x 2>&1 | grep -c 'should be a valid slice named as')"
daemon >/wharf-test/daemon.log 2>&1 &
until_true [ -S /run/w.sock ]
wharf() { /wharf-test/wharf "$@"; }
wharf load -q -i /wharf-test/busybox.tar >/dev/null
image=busybox:latest
is 'shown' "systemd $v" "$(wharf info --format '{{.CgroupDriver}} {{.CgroupVersion}}')"
id=$(wharf run -d --network none -m 64m --cpu-shares 512 --cpuset-cpus 0 --cgroup-parent a-b.slice $image sleep 1000)
at=a.slice/a-b.slice/docker-$id.scope
is 'a container is a scope' "/$at active" "$(shown docker-$id.scope ControlGroup ActiveState)"
is 'with its limits' '67108864 0' "$(echo $(file memory/memory.limit_in_bytes memory.max $at) $(file cpuset/cpuset.cpus cpuset.cpus $at))"
wharf update -m 32m --memory-swap 32m $id >/dev/null
is 'updated' '33554432 33554432' "$(shown docker-$id.scope $max) $(file memory/memory.limit_in_bytes memory.max $at)"
is 'execs' inside "$(wharf exec $id echo inside)"
is 'statistics' "$id" "$(wharf stats --no-stream --no-trunc --format '{{.ID}}' $id)"
kill -KILL $(cat /run/w.pid)
rm -f /run/w.sock
daemon >>/wharf-test/daemon.log 2>&1 &
until_true [ -S /run/w.sock ]
is 'found again' 'true inside' "$(wharf inspect --format '{{.State.Running}}' $id) $(wharf exec $id echo inside)"
wharf rm -f $id >/dev/null
until_true sh -c "[ \"\$(systemctl show docker-$id.scope --property=LoadState --value)\" = not-found ]"
is 'gone' not-found "$(shown docker-$id.scope LoadState)"
id=$(wharf create --network none -m 16m --memory-swap 16m $image sh -c 'head -c 200m /dev/zero | tail')
is 'out of memory' true "$(wharf start -a $id >/dev/null 2>&1; wharf inspect --format '{{.State.OOMKilled}}' $id)"
is 'a second run of it' 'Killed' "$(wharf start -a $id 2>&1 | tail -n 1)"
wharf rm -f $id >/dev/null
is 'another parent' 1 "$(wharf run --rm --network none --cgroup-parent foo $image true 2>&1 | grep -c 'should be a valid slice named as')"

# The journal.
wharf run --rm --network none --name jj --log-driver journald --log-opt tag=tt --label a=b --log-opt labels=a $image sh -c 'echo into the journal; echo as an error >&2' >/dev/null 2>&1
until_true sh -c 'journalctl --no-pager CONTAINER_NAME=jj | grep -q error'
is 'lines in the journal' 'into the journal,as an error' "$(journalctl --no-pager -o cat CONTAINER_NAME=jj | tr '\n' , | sed 's/,$//')"
is 'by tag, label and priority' 'as an error' "$(journalctl --no-pager -o cat CONTAINER_TAG=tt A=b PRIORITY=3)"
wharf run -d --network none --name kk --log-driver journald $image echo kept >/dev/null
is 'read again' kept "$(wharf wait kk >/dev/null; wharf logs kk)"
wharf rm -f kk >/dev/null
kill $(cat /run/w.pid)
until_true sh -c '! kill -0 $(cat /run/w.pid)'
echo "systemd: $failed failed"
sync
systemctl halt --force --force

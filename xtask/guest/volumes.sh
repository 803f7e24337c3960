# Volumes that need what only some kernels have: quotas, servers. Read by main.sh.
mkdir -p /quota /export /etc
losetup /dev/loop0 /quota.img
mount -t ext4 -o prjquota /dev/loop0 /quota || failed=1
ip link set lo up
echo '127.0.0.1 storage' >/etc/hosts

# A server of NFS 4 in the kernel, told by hand what rpc.mountd would answer: who the client is, and what the root of the export is.
mount -t tmpfs export /export && chmod 777 /export && echo served >/export/f
mount -t nfsd nfsd /proc/fs/nfsd
echo 'nfsd 127.0.0.1 2147483647 here' >/proc/net/rpc/auth.unix.ip/channel
# Older ones would have to be announced to rpcbind.
echo '-2 -3 +4' >/proc/fs/nfsd/versions
echo 10 >/proc/fs/nfsd/nfsv4leasetime
echo 10 >/proc/fs/nfsd/nfsv4gracetime
echo 'tcp 2049' >/proc/fs/nfsd/portlist
echo 2 >/proc/fs/nfsd/threads
# insecure ports, asynchronous, no subtree check, an id of its own: 0.
echo 'here /export 2147483647 9234 -2 -2 0' >/proc/net/rpc/nfsd.export/channel
echo 'here 1 \x00000000 2147483647 /export' >/proc/net/rpc/nfsd.fh/channel

/wharf volume create -o type=nfs -o device=:/ -o o=addr=storage,rw,nfsvers=4,nolock served >/dev/null || failed=1
is 'a volume on a server' served "$(run -v served:/v $image cat /v/f)"
is 'written to the server' back "$(run -v served:/v $image sh -c 'echo back >/v/new'; cat /export/new)"
is 'the server is let go of' 0 "$(grep -c ' nfs4 ' /proc/mounts)"
/wharf volume rm served >/dev/null || failed=1

# A second engine, whose volumes are on a file system with project quotas.
DOCKER_HOST=unix:///run/q.sock
export DOCKER_HOST
/wharf daemon --data-root /quota/data --exec-root /run/q -p /run/q.pid -H $DOCKER_HOST --bridge none --iptables=false --ip6tables=false \
    --ip-forward=false >/tmp/quota.log 2>&1 &
n=0
until [ -S /run/q.sock ] || [ $n -gt 300 ]; do n=$((n + 1)); usleep 100000; done
/wharf load -q -i /busybox.tar >/dev/null || failed=1
# fill <volume> <file> <megabytes>
fill() { run -v $1:/v $image sh -c "dd if=/dev/zero of=/v/$2 bs=1M count=$3 2>/dev/null && echo fits || echo full"; }
/wharf volume create -o size=4m small >/dev/null || failed=1
is 'a file below the size' fits "$(fill small kept 2)"
is 'one beyond it' full "$(fill small large 8)"
is 'what was there before is still there' '2097152 kept' "$(run -v small:/v $image sh -c 'rm /v/large; echo $(stat -c %s /v/kept) $(ls /v)')"
is 'room that was freed is room' fits "$(fill small more 1)"
is 'no other volume is limited' fits "$(fill free large 8)"
/wharf volume rename small renamed || failed=1
is 'the size under another name' full "$(fill renamed large 8)"
run -v renamed:/v $image rm -f /v/large
/wharf volume clone renamed cloned >/dev/null || failed=1
is 'the size of a copy' full "$(fill cloned beyond 8)"
kill -9 "$(cat /run/q.pid)"
rm -f /run/q.sock
/wharf daemon --data-root /quota/data --exec-root /run/q -p /run/q.pid -H $DOCKER_HOST --bridge none --iptables=false --ip6tables=false \
    --ip-forward=false >>/tmp/quota.log 2>&1 &
n=0
until [ -S /run/q.sock ] || [ $n -gt 300 ]; do n=$((n + 1)); usleep 100000; done
is 'the size after a SIGKILL' full "$(fill cloned beyond 8)"
/wharf volume rm renamed >/dev/null || failed=1
/wharf volume create renamed >/dev/null || failed=1
is 'the name without the size' fits "$(fill renamed large 8)"
[ $failed = 0 ] || { echo '--- daemon with quotas'; tail -20 /tmp/quota.log; }
DOCKER_HOST=unix:///run/w.sock

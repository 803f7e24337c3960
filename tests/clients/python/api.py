"""docker-py beyond the shop: streams, sockets, web sockets, archives, builds, pruning."""

import io
import socket
import tarfile

import docker
from docker import types

from until import until

client = docker.from_env(version="auto")
api = client.api


def refused(status, text, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except docker.errors.APIError as error:
        assert error.status_code == status and text in str(error), error
        return
    raise SystemExit(f"{call} must fail")


def statistics():
    box = client.containers.run("busybox", ["sh", "-c", "while :; do :; done"], detach=True, mem_limit="64m")
    stream = box.stats(decode=True)
    first, second = next(stream), next(stream)
    assert second["cpu_stats"]["cpu_usage"]["total_usage"] > first["cpu_stats"]["cpu_usage"]["total_usage"]
    assert second["precpu_stats"]["system_cpu_usage"] and second["memory_stats"]["limit"] == 64 << 20
    assert api.stats(box.id, stream=False, one_shot=True)["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    box.remove(force=True)


def events():
    wanted = {"type": "container", "label": "ev=1", "event": ["create", "start", "die", "destroy"]}
    seen = client.events(decode=True, filters=wanted, since=1)
    client.containers.run("busybox", "true", remove=True)
    client.containers.run("busybox", "true", remove=True, labels={"ev": "1"})
    actions = [next(seen)["Action"] for _ in range(4)]
    assert actions == ["create", "start", "die", "destroy"], actions
    seen.close()


def archives():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("dir/file")
        entry.size, entry.mode, entry.uid, entry.gid, entry.mtime = 5, 0o640, 12, 34, 1600000000
        tar.addfile(entry, io.BytesIO(b"hello"))
    box = client.containers.create("busybox", ["sleep", "1000"])
    for start in (False, True):
        if start:
            box.start()
        assert box.put_archive("/tmp", data.getvalue())
        bits, stat = box.get_archive("/tmp/dir/file", chunk_size=100, encode_stream=True)
        assert stat["size"] == 5 and stat["mode"] == 0o640 and stat["linkTarget"] == "", stat
        with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as tar:
            entry = tar.getmember("file")
            assert (entry.uid, entry.gid, entry.mode, entry.mtime) == (12, 34, 0o640, 1600000000)
        refused(404, "Could not find the file /nope in container", box.get_archive, "/nope")
    assert b"tmp" in b"".join(box.export())
    box.remove(force=True)


def sockets():
    box = client.containers.run("busybox", "cat", detach=True, stdin_open=True)
    _, stream = box.exec_run(["cat"], stdin=True, socket=True)
    stream._sock.sendall(b"abc\n")
    stream._sock.shutdown(socket.SHUT_WR)
    assert stream.read(4096)[8:] == b"abc\n"
    stream.close()
    attached = box.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    attached._sock.sendall(b"hello\n")
    assert attached.read(100)[8:] == b"hello\n"
    attached._sock.close()
    until("the log", lambda: box.logs() == b"hello\n")
    box.resize(10, 10)
    box.pause()
    refused(409, "is paused, unpause the container before exec", box.exec_run, "true")
    box.unpause()
    box.stop(timeout=0)
    refused(409, "is not running", box.exec_run, "true")
    box.remove()


def builds():
    dockerfile = b"FROM busybox AS one\nARG V=0\nENV V=$V\nRUN echo $V > /v\nFROM one AS two\nRUN exit 3\n"
    image, _ = client.images.build(fileobj=io.BytesIO(dockerfile), target="one", buildargs={"V": "7"}, tag="built:1", labels={"l": "m"}, rm=True)
    assert image.labels == {"l": "m"} and client.containers.run("built:1", ["cat", "/v"], remove=True) == b"7\n"
    try:
        client.images.build(fileobj=io.BytesIO(dockerfile))
        raise SystemExit("a failing step must fail the build")
    except docker.errors.BuildError as error:
        assert "returned a non-zero code: 3" in error.msg, error
    box = client.containers.create("built:1", "true")
    kept = box.commit("kept", "1", message="m", author="me", changes='CMD ["env"]', conf={"Labels": {"x": "y"}})
    assert kept.attrs["Comment"] == "m" and kept.attrs["Config"]["Cmd"] == ["env"], kept.attrs
    assert kept.history()[0]["Comment"] == "m"
    box.remove()
    client.images.remove("kept:1")
    client.images.remove("built:1")


def volumes():
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    volume = client.volumes.create("vol", driver="local", labels={"a": "b"}, driver_opts=options)
    assert volume.attrs["Options"] == options and "T" in volume.attrs["CreatedAt"], volume.attrs
    mounts = [types.Mount("/t", None, type="tmpfs", tmpfs_size=1 << 20), types.Mount("/m", "named", labels={"z": "1"})]
    box = client.containers.run("busybox", "sleep 1000", detach=True, volumes=["vol:/v:ro"], mounts=mounts)
    found = {mount["Destination"]: mount for mount in box.attrs["Mounts"]}
    assert found["/v"]["RW"] is False and client.volumes.get("named").attrs["Labels"] == {"z": "1"}, found
    refused(409, "volume is in use", volume.remove)
    box.remove(force=True, v=True)
    assert {v.name for v in client.volumes.list(filters={"dangling": True})} == {"vol", "named"}
    # A volume with options is never pruned.
    assert client.volumes.prune(filters={"all": 1})["VolumesDeleted"] == ["named"]
    volume.remove()


def the_rest():
    assert client.plugins.list() == []
    refused(404, "network nonet not found", client.containers.run, "busybox", "true", network="nonet")
    refused(400, "", client.containers.run, "busybox", "true", mem_limit="1k")
    client.containers.prune()
    assert set(client.df()) >= {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}


statistics()
events()
archives()
sockets()
builds()
volumes()
the_rest()
print("done")

"""An engine asked in an old version of the API answers as it did then."""

import sys

import docker

version = sys.argv[1]
old = tuple(map(int, version.split(".")))
client = docker.from_env(version=version)
assert client.api._version == version
assert client.ping()
assert client.info()["ServerVersion"] and client.version()["ApiVersion"] == "1.51"
box = client.containers.run("busybox", ["sleep", "1000"], detach=True, labels={"a": "b"}, ports={"80/tcp": None})
box.reload()
assert box.ports["80/tcp"][0]["HostPort"], box.ports
assert client.containers.list(filters={"label": "a=b"}) == [box]
assert box.exec_run(["echo", "hi"]).output == b"hi\n"
image = client.images.get("busybox").attrs
assert ("VirtualSize" in image) == (old < (1, 44)), image
assert ("ContainerConfig" in image) == (old < (1, 45)), image
assert ("MacAddress" in box.attrs["Config"]) == (old < (1, 44)) or not box.attrs["Config"].get("MacAddress"), box.attrs["Config"]
box.remove(force=True)
network = client.networks.create("n", labels={"a": "b"})
assert [n.name for n in client.networks.list(filters={"label": "a=b"})] == ["n"]
network.remove()
print("done")

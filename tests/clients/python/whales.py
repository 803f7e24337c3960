"""python-on-whales runs a shop through a command line."""

import os
import pathlib
import sys
import tempfile
import urllib.request

from python_on_whales import DockerClient, DockerException
from python_on_whales.exceptions import NoSuchContainer, NoSuchImage, NoSuchVolume

from until import until

SHOP = os.environ["SHOP"]
LABELS = {"shop": "whales"}
os.environ["DOCKER_BUILDKIT"] = "0"
docker = DockerClient(client_call=[sys.argv[1]], host=os.environ["DOCKER_HOST"])


def refused(kind, call, *args):
    try:
        call(*args)
    except kind as error:
        return error
    raise SystemExit(f"{call} {args} must fail")


docker.legacy_build(f"{SHOP}/web", tags="shop-web:1", build_args={"GREETING": "hello from whales"}, labels=LABELS)
image = docker.image.inspect("shop-web:1")
assert image.config.labels == {"shop": "whales", "shop.part": "web"}, image.config.labels
back = docker.network.create("back", labels=LABELS, subnet="10.93.0.0/24", gateway="10.93.0.1")
assert back.ipam.config[0]["Subnet"] == "10.93.0.0/24", back.ipam
data = docker.volume.create("data", labels=LABELS)
db = docker.run(
    "shop", ["redis-server", "--protected-mode", "no"], detach=True, name="db", labels=LABELS, networks=[back],
    network_aliases=["database"], volumes=[(data, "/data")], memory="64m", health_cmd="redis-cli ping",
    health_interval=1, ip="10.93.0.9",
)
worker = docker.run(
    "shop", ["sh", "/worker.sh"], detach=True, name="worker", labels=LABELS, networks=["back"], init=True,
    volumes=[(f"{SHOP}/worker.sh", "/worker.sh", "ro"), ("orders", "/orders")],
)
web = docker.run("shop-web:1", detach=True, name="web", labels=LABELS, publish=[("127.0.0.1:0", 80)], volumes=[("orders", "/orders")])
for box in (db, web):
    until(f"the health of {box.name}", lambda: (box.reload(), box.state.health.status)[1] == "healthy")
endpoint = db.network_settings.networks["back"]
assert endpoint.ip_address == "10.93.0.9" and "database" in endpoint.aliases, endpoint
port = web.network_settings.ports["80/tcp"][0]["HostPort"]
with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
    assert answer.read() == b"hello from whales\n"
until("orders", lambda: any(b"order " in line for _, line in docker.container.logs(worker, stream=True)))
docker.network.connect(back, web, alias="www")
assert "10.93.0.9" in web.execute(["nslookup", "database"])
assert db.execute(["sh", "-c", "echo $A; pwd"], envs={"A": "b"}, workdir="/tmp") == "b\n/tmp"
with tempfile.TemporaryDirectory() as directory:
    file = pathlib.Path(directory) / "file"
    file.write_text("hello")
    docker.copy(file, (web, "/tmp/file"))
    docker.copy((web, "/tmp/file"), file.with_name("back"))
    assert file.with_name("back").read_text() == "hello"
    docker.image.save("shop-web:1", output=file.with_name("image.tar"))
    docker.image.tag("shop-web:1", "kept:1")
    docker.image.remove("kept:1")
    assert docker.image.load(file.with_name("image.tar")) == ["shop-web:1"]
usage = docker.stats(containers=[db])
assert usage[0].container_name == "db" and usage[0].memory_limit == 64 << 20, usage
assert set(docker.ps(filters={"label": "shop=whales"})) == {db, worker, web}
worker.pause()
assert worker.state.paused
worker.unpause()
worker.kill()
assert docker.wait(worker) == 137
error = refused(DockerException, docker.run, "busybox", ["sh", "-c", "exit 4"])
assert error.return_code == 4, error
refused(NoSuchContainer, docker.container.inspect, "nope")
refused(NoSuchImage, docker.image.inspect, "nope")
refused(NoSuchVolume, docker.volume.inspect, "nope")
docker.container.remove([db, worker, web], force=True, volumes=True)
back.remove()
docker.volume.remove(["data", "orders"])
docker.image.remove("shop-web:1")
docker.system.prune(volumes=True)
assert docker.container.list(all=True) == []
print("done")

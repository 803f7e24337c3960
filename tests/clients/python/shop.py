"""docker-py runs a shop: a web server, a database and a worker on two networks."""

import io
import os
import tarfile
import time
import urllib.request

import docker
from docker import types

from until import until

SHOP = os.environ["SHOP"]
LABELS = {"shop": "docker-py"}
MINE = {"label": "shop=docker-py"}

client = docker.from_env(version="auto")


def build_web():
    image, log = client.images.build(
        path=f"{SHOP}/web", tag="shop-web:1", buildargs={"GREETING": "hello from docker-py"}, labels=LABELS, rm=True
    )
    assert image.tags == ["shop-web:1"], image.tags
    assert image.labels == {"shop": "docker-py", "shop.part": "web"}, image.labels
    assert any("Successfully tagged shop-web:1" in line.get("stream", "") for line in log)


def networks():
    ipam = types.IPAMConfig(pool_configs=[types.IPAMPool(subnet="10.91.0.0/24", gateway="10.91.0.254")])
    back = client.networks.create("back", driver="bridge", internal=True, ipam=ipam, labels=LABELS)
    assert back.attrs["IPAM"]["Config"] == [{"Subnet": "10.91.0.0/24", "Gateway": "10.91.0.254"}], back.attrs
    front = client.networks.create("front", labels=LABELS)
    assert {n.name for n in client.networks.list(filters=MINE)} == {"front", "back"}
    return front, back


def database():
    data = client.volumes.create("data", labels=LABELS)
    db = client.containers.run(
        "shop",
        ["redis-server", "--dir", "/data", "--protected-mode", "no"],
        name="db",
        detach=True,
        user="app",
        labels=LABELS,
        volumes={"data": {"bind": "/data", "mode": "rw"}},
        network="back",
        networking_config={"back": types.EndpointConfig(client.api._version, aliases=["database"], ipv4_address="10.91.0.7")},
        healthcheck={"test": ["CMD", "redis-cli", "ping"], "interval": 200_000_000, "timeout": 10 * 10**9, "retries": 50},
    )
    health = client.events(decode=True, since=1, filters={"container": db.id, "event": "health_status: healthy"})
    event = next(health)
    health.close()
    assert event["Actor"]["Attributes"]["name"] == "db" and event["Type"] == "container", event
    db.reload()
    assert db.health == "healthy", db.attrs["State"]
    endpoint = db.attrs["NetworkSettings"]["Networks"]["back"]
    assert endpoint["IPAddress"] == "10.91.0.7" and "database" in endpoint["DNSNames"], endpoint
    assert data.attrs["Mountpoint"] == db.attrs["Mounts"][0]["Source"]
    return db


def worker():
    box = client.containers.create(
        "shop",
        ["sh", "/worker.sh"],
        name="worker",
        labels=LABELS,
        network="back",
        init=True,
        mem_limit="64m",
        volumes=["orders:/orders"],
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
    )
    with open(f"{SHOP}/worker.sh", "rb") as script:
        content = script.read()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("worker.sh")
        entry.size, entry.mode, entry.uid = len(content), 0o755, 1000
        tar.addfile(entry, io.BytesIO(content))
    assert box.put_archive("/", archive.getvalue())
    box.start()
    lines = box.logs(stream=True, follow=True)
    assert next(lines) == b"worker starts\n"
    assert next(lines).startswith(b"order ")
    bits, stat = box.get_archive("/worker.sh")
    assert stat["size"] == len(content) and stat["mode"] == 0o755, stat
    with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as tar:
        assert tar.getmember("worker.sh").uid == 1000
        assert tar.extractfile("worker.sh").read() == content
    return box


def web(front, back):
    box = client.containers.run(
        "shop-web:1", name="web", detach=True, labels=LABELS, network="front", ports={"80/tcp": None}, volumes=["orders:/orders:ro"]
    )
    back.connect(box, aliases=["www"])
    until("the web server's health", lambda: (box.reload(), box.health)[1] == "healthy")
    bindings = box.ports["80/tcp"]
    assert len({b["HostPort"] for b in bindings}) == 1, bindings
    address = f"http://127.0.0.1:{bindings[0]['HostPort']}"
    assert fetch(address + "/") == b"hello from docker-py\n"
    before = int(fetch(address + "/orders/count"))
    until("more orders", lambda: int(fetch(address + "/orders/count")) > before)
    assert set(box.attrs["NetworkSettings"]["Networks"]) == {"front", "back"}
    return box


def fetch(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read()


def look_inside(db, box):
    assert db.exec_run(["redis-cli", "set", "a", "b"]).output == b"OK\n"
    code, (out, err) = db.exec_run(["sh", "-c", "echo out; echo err >&2; exit 3"], demux=True)
    assert (code, out, err) == (3, b"out\n", b"err\n")
    assert b"10.91.0.7" in box.exec_run(["nslookup", "database"]).output
    assert box.logs(tail=1).endswith(b"\n")
    assert any("nginx" in " ".join(process) for process in box.top()["Processes"])
    usage = db.stats(stream=False)
    assert usage["memory_stats"]["usage"] > 0 and "eth0" in usage["networks"], usage
    assert client.containers.list(filters={**MINE, "health": "healthy", "network": "back", "volume": "data"}) == [db]


def ends(db):
    db.kill("SIGKILL")
    assert db.wait()["StatusCode"] == 137
    db.start()
    until("the database's health", lambda: (db.reload(), db.health)[1] == "healthy")
    actions = [e["Action"] for e in client.events(decode=True, since=1, until=int(time.time()), filters={"container": db.id})]
    assert actions[:2] == ["create", "start"], actions


def clean_up():
    try:
        client.networks.get("back").remove()
        raise SystemExit("a network in use must stay")
    except docker.errors.APIError as error:
        assert error.status_code == 403 and "has active endpoints" in str(error), error
    for box in client.containers.list(all=True, filters=MINE):
        box.remove(force=True, v=True)
    assert set(client.networks.prune(filters=MINE)["NetworksDeleted"]) == {"front", "back"}
    client.volumes.get("orders").remove()
    pruned = client.volumes.prune(filters={**MINE, "all": "true"})
    assert pruned["VolumesDeleted"] == ["data"], pruned
    client.images.remove("shop-web:1")
    assert client.containers.list(all=True) == [] and client.volumes.list() == []


build_web()
front, back = networks()
db = database()
worker()
box = web(front, back)
look_inside(db, box)
ends(db)
clean_up()
client.close()
print("done")

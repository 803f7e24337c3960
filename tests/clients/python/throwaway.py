"""Testcontainers for Python: a database from its own module, a web server, and things that only the reaper removes."""

import urllib.request

import docker
from testcontainers.community.redis import RedisContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

import os

SHOP = os.environ["SHOP"]

with Network() as network, DockerImage(path=f"{SHOP}/web", tag="shop-web:tc", clean_up=True) as image:
    database = RedisContainer("shop").with_command(["redis-server", "--save", "", "--protected-mode", "no"])
    with database.with_network(network).with_network_aliases("database") as db:
        db.get_client().set("a", "b")
        worker = DockerContainer("shop").with_command(["sh", "/worker.sh"]).with_network(network)
        worker.with_volume_mapping(f"{SHOP}/worker.sh", "/worker.sh").with_volume_mapping("orders", "/orders", "rw")
        worker.waiting_for(LogMessageWaitStrategy("order "))
        web = DockerContainer(str(image)).with_network(network).with_exposed_ports(80).with_volume_mapping("orders", "/orders")
        web.waiting_for(HttpWaitStrategy(80, "/orders/count").for_status_code(200))
        with worker, web:
            address = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(80)}/orders/count"
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert int(answer.read()) > 0
            code, output = web.exec(["redis-cli", "-h", "database", "get", "a"])
            assert (code, output) == (0, b"b\n"), (code, output)
            out, err = worker.get_logs()
            assert out.startswith(b"worker starts\n"), out

# Nobody stops these but the reaper.
client = docker.from_env()
session = {LABEL_SESSION_ID: SESSION_ID}
client.volumes.get("orders").remove()
client.volumes.create("left", labels=session)
client.networks.create("left", labels=session)
DockerContainer("busybox").with_command(["sleep", "1000"]).with_volume_mapping("left", "/left", "rw").start()
names = [box.name for box in client.containers.list()]
assert any(name.startswith("testcontainers-ryuk-") for name in names), names
print("done", flush=True)
# Not by atexit, which would end the reaper before its work.
os._exit(0)

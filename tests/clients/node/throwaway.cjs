// Testcontainers for Node: a database, a worker and a web server with every kind of waiting, and things that only the reaper removes.
const assert = require("assert");
const path = require("path");
const { GenericContainer, Network, Wait, getContainerRuntimeClient, getReaper } = require("testcontainers");

const shop = process.env.SHOP;

async function main() {
  const network = await new Network().start();
  const db = await new GenericContainer("shop")
    .withCommand(["redis-server", "--save", "", "--protected-mode", "no"])
    .withNetwork(network).withNetworkAliases("database").withExposedPorts(6379)
    .withHealthCheck({ test: ["CMD", "redis-cli", "ping"], interval: 200, timeout: 10000, retries: 50 })
    .withWaitStrategy(Wait.forHealthCheck()).start();
  const worker = await new GenericContainer("shop")
    .withCommand(["sh", "/worker.sh"]).withNetwork(network)
    .withCopyFilesToContainer([{ source: path.join(shop, "worker.sh"), target: "/worker.sh", mode: 0o755 }])
    .withBindMounts([{ source: shop, target: "/shop", mode: "ro" }]).withTmpFs({ "/cache": "rw,size=1m" })
    .withWaitStrategy(Wait.forLogMessage(/order \d+/)).start();
  const image = await GenericContainer.fromDockerfile(path.join(shop, "web")).withBuildArgs({ GREETING: "hello from node" }).build();
  const web = await image.withNetwork(network).withExposedPorts(80)
    .withCopyContentToContainer([{ content: "copied", target: "/www/copied", mode: 0o644 }])
    .withWaitStrategy(Wait.forAll([Wait.forHealthCheck(), Wait.forHttp("/", 80), Wait.forListeningPorts()])).start();
  assert.deepEqual(web.getNetworkNames(), [network.getName()]);
  const address = `http://${web.getHost()}:${web.getMappedPort(80)}`;
  assert.equal(await (await fetch(address)).text(), "hello from node\n");
  assert.equal(await (await fetch(`${address}/copied`)).text(), "copied");
  assert.deepEqual(await db.exec(["sh", "-c", "echo out; echo err >&2; exit 3"]), { output: "out\nerr\n", stdout: "out\n", stderr: "err\n", exitCode: 3 });
  assert.ok(Number((await web.exec(["redis-cli", "-h", "database", "get", "orders"])).output) > 0);
  const logs = await worker.logs({ tail: -1 });
  assert.equal(String(await new Promise((resolve) => logs.once("data", resolve))).trim(), "worker starts");
  logs.destroy();
  let bytes = 0;
  for await (const part of await web.copyArchiveFromContainer("/www")) bytes += part.length;
  assert.ok(bytes > 1024, `${bytes} bytes`);
  await web.restart({ timeout: 0 });
  assert.match(await web.commit({ repo: "kept", tag: "1" }), /^sha256:/);
  await new GenericContainer("busybox").withCommand(["true"]).withWaitStrategy(Wait.forOneShotStartup()).start();
  await assert.rejects(new GenericContainer("busybox").withCommand(["nope"]).start(), /executable file not found in \$PATH/);
  await web.stop({ timeout: 0 });
  await leave();
}

// Nobody removes this, nor the database and the worker, but the reaper.
async function leave() {
  const client = await getContainerRuntimeClient();
  const { sessionId } = await getReaper(client);
  const docker = client.container.dockerode;
  await docker.createVolume({ Name: "left", Labels: { "org.testcontainers.session-id": sessionId } });
}

// Testcontainers lets go of the sockets it waits on, which would end this program while it waits.
setInterval(() => {}, 1000);
main().then(() => { console.log("done"); process.exit(0); }, (error) => { console.error(error); process.exit(1); });

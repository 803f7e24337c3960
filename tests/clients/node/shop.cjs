// dockerode runs a shop: a web server, a database and a worker.
const assert = require("assert");
const path = require("path");
const { PassThrough } = require("stream");
const Docker = require("dockerode");

const shop = process.env.SHOP;
const docker = new Docker();
const Labels = { shop: "dockerode" };
const mine = { label: ["shop=dockerode"] };

async function text(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}

function demuxed(stream) {
  const both = new PassThrough();
  docker.modem.demuxStream(stream, both, both);
  stream.on("end", () => both.end());
  return text(both);
}

async function until(what, look) {
  const end = Date.now() + 60000;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function build() {
  const stream = await docker.buildImage({ context: path.join(shop, "web"), src: ["Dockerfile", "nginx.conf"] }, { t: "shop-web:1", buildargs: { GREETING: "hello from dockerode" } });
  const steps = await new Promise((resolve, reject) => docker.modem.followProgress(stream, (error, all) => (error ? reject(error) : resolve(all))));
  assert.ok(steps.some((step) => step.stream?.includes("Successfully tagged shop-web:1")));
}

async function database(network) {
  const events = await docker.getEvents({ filters: { type: ["container"], container: ["db"], event: ["health_status: healthy"] } });
  const healthy = new Promise((resolve) => events.once("data", (line) => resolve(JSON.parse(line))));
  const db = await docker.createContainer({
    name: "db", Image: "shop", Cmd: ["redis-server", "--protected-mode", "no"], Labels,
    Healthcheck: { Test: ["CMD", "redis-cli", "ping"], Interval: 2e8, Timeout: 1e10, Retries: 50 },
    HostConfig: { NetworkMode: network.id, Binds: ["data:/data"] },
    NetworkingConfig: { EndpointsConfig: { [network.id]: { Aliases: ["database"] } } },
  });
  await db.start();
  assert.equal((await healthy).Actor.Attributes.name, "db");
  events.destroy();
  // Named by its id, known by its name.
  assert.deepEqual(Object.keys((await db.inspect()).NetworkSettings.Networks), ["back"]);
  return db;
}

async function worker() {
  const box = await docker.createContainer({ name: "worker", Image: "shop", Cmd: ["sh", "/worker.sh"], Labels, HostConfig: { NetworkMode: "back", Binds: [`${shop}/worker.sh:/worker.sh:ro`, "orders:/orders"], Init: true } });
  const stream = await box.attach({ stream: true, stdout: true, stderr: true });
  const out = new PassThrough();
  box.modem.demuxStream(stream, out, out);
  await box.start();
  assert.equal(String(await new Promise((resolve) => out.once("data", resolve))).split("\n")[0], "worker starts");
  stream.destroy();
}

async function web() {
  const box = await docker.createContainer({ name: "web", Image: "shop-web:1", Labels, HostConfig: { PublishAllPorts: true, Binds: ["orders:/orders"] } });
  await box.start();
  const ports = (await box.inspect()).NetworkSettings.Ports["80/tcp"];
  assert.equal(new Set(ports.map((p) => p.HostPort)).size, 1);
  const address = `http://127.0.0.1:${ports[0].HostPort}`;
  await until("the web server", () => fetch(address).then((answer) => answer.ok, () => false));
  assert.equal(await (await fetch(address)).text(), "hello from dockerode\n");
  await until("orders", async () => Number(await (await fetch(`${address}/orders/count`)).text()) > 0);
  return box;
}

async function lookInside(db, box) {
  const exec = await db.exec({ Cmd: ["cat"], AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true, stdin: true });
  const said = demuxed(stream);
  stream.end("through cat\n");
  assert.equal(await said, "through cat\n");
  assert.equal((await exec.inspect()).ExitCode, 0);
  const terminal = await db.exec({ Cmd: ["sh", "-c", "echo a; exit 7"], AttachStdout: true, Tty: true });
  assert.equal(await text(await terminal.start({})), "a\r\n");
  assert.equal((await terminal.inspect()).ExitCode, 7);
  await db.resize({ h: 10, w: 10 });
  assert.ok((await db.stats({ stream: false })).memory_stats.usage > 0);
  await box.putArchive(await box.getArchive({ path: "/www/index.html" }), { path: "/tmp" });
  assert.ok((await text(await box.getArchive({ path: "/tmp/index.html" }))).includes("hello from dockerode"));
  assert.ok(String(await box.logs({ stdout: true, stderr: true })).includes("GET / HTTP/1.1"));
  assert.equal((await docker.listContainers({ filters: mine })).length, 3);
  assert.deepEqual(await docker.listPlugins(), []);
  const [ended, once] = await docker.run("busybox", ["sh", "-c", "echo o; exit 2"], new PassThrough().resume(), { Tty: false });
  assert.equal(ended.StatusCode, 2);
  await once.remove();
}

async function cleanUp(db) {
  await db.stop({ t: 0 });
  assert.equal((await db.stop().catch((error) => error)).statusCode, 304);
  for (const { Id } of await docker.listContainers({ all: true, filters: mine })) await docker.getContainer(Id).remove({ force: true, v: true });
  assert.equal((await db.inspect().catch((error) => error)).reason, "no such container");
  await docker.pruneNetworks({ filters: mine });
  for (const name of ["data", "orders"]) await docker.getVolume(name).remove();
  const saved = await text(await docker.getImage("shop-web:1").get());
  assert.ok(saved.includes("manifest.json"));
  await docker.getImage("shop-web:1").remove();
  assert.equal((await docker.listVolumes()).Volumes.length, 0);
}

async function main() {
  await build();
  const network = await docker.createNetwork({ Name: "back", Labels, IPAM: { Config: [{ Subnet: "10.92.0.0/24" }] } });
  const db = await database(network);
  await worker();
  const box = await web();
  await lookInside(db, box);
  await cleanUp(db);
}

main().then(() => { console.log("done"); process.exit(0); }, (error) => { console.error(error); process.exit(1); });

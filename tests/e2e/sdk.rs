//! Docker's Python SDK as one more judge.

use std::process::Command;

use wharf_e2e::Engine;

const SCRIPT: &str = r"
import docker, sys
client = docker.DockerClient(base_url=sys.argv[1], version='auto')
assert client.ping()
assert client.containers.run('busybox', ['echo', 'hello'], remove=True) == b'hello\n'
try:
    client.containers.run('busybox', ['sh', '-c', 'echo oops >&2; exit 3'], remove=True)
    raise SystemExit('a failing command must raise')
except docker.errors.ContainerError as error:
    assert error.exit_status == 3 and error.stderr == b'oops\n', error
box = client.containers.run('busybox', ['sleep', '1000'], detach=True, name='py', labels={'a': 'b'}, mem_limit='64m')
assert client.containers.list(filters={'label': 'a=b'}) == [box]
code, output = box.exec_run(['sh', '-c', 'echo out; exit 5'])
assert (code, output) == (5, b'out\n'), (code, output)
out, err = box.exec_run(['sh', '-c', 'echo o; echo e >&2'], demux=True).output
assert (out, err) == (b'o\n', b'e\n'), (out, err)
box.kill()
assert box.wait()['StatusCode'] == 137
box.remove()
image = client.images.get('busybox')
assert image.tag('copy', 'one')
saved = b''.join(client.images.get('copy:one').save(named=True))
client.images.remove('copy:one')
assert client.images.load(saved)[0].id == image.id
try:
    client.containers.get('nope')
    raise SystemExit('an unknown container must raise')
except docker.errors.NotFound:
    pass
for event in client.events(since=1, until=2, decode=True):
    pass
client.info(); client.version(); client.close()
print('done')
";

#[test]
fn the_python_sdk_finds_its_way() {
    let engine = Engine::start();
    let output = Command::new("/usr/bin/python3")
        .args(["-c", SCRIPT, &engine.host()])
        .env_remove("DOCKER_HOST")
        .output()
        .expect("python3 runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "done\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

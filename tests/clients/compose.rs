//! Debian's `docker-compose` (1.29, written in Python), with builds through the stock CLI and through the API.

use std::fs;
use std::path::Path;

use wharf_e2e::Engine;
use wharf_e2e::cli::Running;
use wharf_e2e::deadline::{LONG, wait_until};

use crate::shop::{command, engine, file};

struct Project {
    engine: Engine,
    build_with_cli: &'static str,
}

impl Project {
    fn new(build_with_cli: &'static str) -> Project {
        let engine = engine();
        let dir = engine.dir().join("project");
        for part in [
            "shop/web/Dockerfile",
            "shop/web/nginx.conf",
            "shop/worker.sh",
            "docker-compose.yml",
        ] {
            let to = dir.join(part);
            fs::create_dir_all(to.parent().expect("a file in a directory")).expect("a directory");
            fs::copy(file(part), to).expect("a copy of the project");
        }
        Project {
            engine,
            build_with_cli,
        }
    }

    /// What it said; it must succeed.
    fn compose(&self, args: &[&str]) -> String {
        let mut command = command(&self.engine, Path::new("/usr/bin/docker-compose"));
        command
            .args(["--ansi", "never", "--project-name", "shop"])
            .args(args)
            .env("COMPOSE_DOCKER_CLI_BUILD", self.build_with_cli)
            .env("DOCKER_BUILDKIT", "0")
            .current_dir(self.engine.dir().join("project"));
        let output = Running::start(&mut command).finish();
        assert_eq!(
            output.code, 0,
            "{args:?}\n{}{}",
            output.stdout, output.stderr
        );
        output.stdout + &output.stderr
    }

    /// Answer of a published port.
    fn fetch(&self, address: &str) -> String {
        let mut command = self.engine.netns().command(Path::new("curl"));
        let output = Running::start(command.args(["-s", address])).finish();
        output.stdout
    }

    fn orders(&self) -> u64 {
        let text = self.fetch("http://127.0.0.1:8181/orders/count");
        text.trim().parse().unwrap_or(0)
    }

    fn ids(&self, service: &str) -> usize {
        self.compose(&["ps", "-q", service]).lines().count()
    }
}

#[test]
fn a_project_goes_up_and_down() {
    let shop = Project::new("1");
    shop.compose(&["config", "--quiet"]);
    let up = shop.compose(&["up", "--detach"]);
    assert!(up.contains("Successfully tagged shop-web:latest"), "{up}");
    assert_eq!(shop.fetch("http://127.0.0.1:8181/"), "hello from compose\n");
    wait_until("orders", LONG, || shop.orders() > 0);
    assert!(shop.compose(&["ps", "db"]).contains("Up (healthy)"));
    assert_eq!(shop.compose(&["port", "web", "80"]).lines().count(), 1);
    assert_eq!(
        shop.compose(&["exec", "-T", "db", "redis-cli", "set", "a", "b"]),
        "OK\n"
    );
    let database = shop.compose(&["exec", "-T", "web", "nslookup", "database"]);
    assert!(database.contains("10.90.0."), "{database}");
    assert!(
        shop.compose(&["logs", "--tail", "2", "worker"])
            .contains("order ")
    );
    assert!(shop.compose(&["top", "db"]).contains("redis-server"));
    assert!(shop.compose(&["images"]).contains("shop-web"));
    let once = shop.compose(&[
        "run",
        "--rm",
        "-T",
        "worker",
        "redis-cli",
        "-h",
        "database",
        "get",
        "a",
    ]);
    assert!(once.contains("b\n"), "{once}");
    down(&shop);
}

#[test]
fn a_project_changes_while_it_runs() {
    let shop = Project::new("0");
    shop.compose(&["up", "--detach"]);
    shop.compose(&["up", "--detach", "--scale", "worker=3"]);
    assert_eq!(shop.ids("worker"), 3);
    shop.compose(&["restart", "--timeout", "0", "worker"]);
    shop.compose(&["up", "--detach", "--scale", "worker=1", "--timeout", "0"]);
    assert_eq!(shop.ids("worker"), 1);
    // The anonymous volume goes over to the new container, as compose reads it from the image and the old one.
    let volume = || {
        let id = shop.compose(&["ps", "-q", "worker"]);
        let format = r#"{{range .Mounts}}{{if eq .Destination "/cache"}}{{.Name}}{{end}}{{end}}"#;
        shop.engine.inspect(id.trim(), format)
    };
    let before = volume();
    shop.compose(&[
        "up",
        "--detach",
        "--force-recreate",
        "--no-deps",
        "--timeout",
        "0",
        "worker",
        "web",
    ]);
    assert_eq!(volume(), before);
    wait_until("orders", LONG, || shop.orders() > 0);
    shop.compose(&["pause", "db"]);
    assert!(shop.compose(&["ps", "db"]).contains("Paused"));
    shop.compose(&["unpause", "db"]);
    shop.compose(&[
        "build",
        "--no-cache",
        "--build-arg",
        "GREETING=again",
        "web",
    ]);
    shop.compose(&["up", "--detach", "--timeout", "0", "web"]);
    wait_until("the new web server", LONG, || {
        shop.fetch("http://127.0.0.1:8181/") == "again\n"
    });
    shop.compose(&["kill", "worker"]);
    shop.compose(&["rm", "--force", "worker"]);
    assert_eq!(shop.ids("worker"), 0);
    shop.compose(&["stop", "--timeout", "0"]);
    shop.compose(&["start"]);
    down(&shop);
}

fn down(shop: &Project) {
    shop.compose(&["down", "--volumes", "--rmi", "all", "--timeout", "0"]);
    assert!(shop.engine.container_ids().is_empty());
    // Anonymous volumes of single containers that were removed stay, as with Docker.
    let left = shop
        .engine
        .docker_ok(&["volume", "ls", "-q", "--filter", "name=shop_"]);
    assert_eq!(left, "");
    let networks = shop
        .engine
        .docker_ok(&["network", "ls", "-q", "--filter", "type=custom"]);
    assert_eq!(networks, "");
}

//! "Every instruction builds a layer": a web server made of Debian's packages, and a page upon it.

use std::fs;

use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_for};
use wharf_e2e::images::{DEBIAN, archive};

use super::directory;

#[test]
fn a_page_upon_nginx_answers() {
    let engine = Engine::empty();
    engine.load("debian.tar");
    let file = format!(
        "FROM {DEBIAN}\nENV DEBIAN_FRONTEND=noninteractive\nCOPY *.deb /packages/\n\
         RUN dpkg -i /packages/*.deb && rm -r /packages\n\
         RUN sed -i s,/var/www/html,/usr/share/nginx/html, /etc/nginx/sites-available/default && ln -sf /dev/stdout /var/log/nginx/access.log\n\
         EXPOSE 80\nSTOPSIGNAL SIGQUIT\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n"
    );
    let dir = directory(&engine, "nginx", &[("Dockerfile", &file)]);
    tar::Archive::new(archive("nginx-debs.tar").as_slice())
        .unpack(&dir)
        .expect("packages");
    build(&engine, "nginx", &dir);
    let page =
        "FROM nginx\nRUN echo '<h1>Hello, Docker!</h1>' > /usr/share/nginx/html/index.html\n";
    let dir = directory(&engine, "page", &[("Dockerfile", page)]);
    build(&engine, "nginx:v3", &dir);
    let _ = engine.docker_ok(&[
        "run",
        "-d",
        "--name",
        "webserver",
        "-p",
        "8080:80",
        "nginx:v3",
    ]);
    let answer = wait_for("the page", LONG, || {
        let output = engine
            .netns()
            .command("curl".as_ref())
            .args(["--silent", "--include", "http://127.0.0.1:8080/"])
            .output()
            .ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned()).filter(|text| !text.is_empty())
    });
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("<h1>Hello, Docker!</h1>\n"), "{answer}");
    let changes = engine.docker_ok(&["history", "nginx:v3"]);
    assert!(changes.contains("Hello"), "{changes}");
    let _ = engine.docker_ok(&["rm", "-f", "webserver"]);
    fs::remove_dir_all(&dir).expect("it is there");
}

fn build(engine: &Engine, name: &str, dir: &str) {
    let mut command = engine.docker_command(&["build", "-t", name, dir]);
    let output = wharf_e2e::cli::Running::start(command.env("DOCKER_BUILDKIT", "0")).finish();
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
}

//! Webhooks.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::harness::Registry;

/// A receiver that refuses the first so many times.
async fn receiver(refuse: usize) -> (String, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (send, receive) = mpsc::channel(100);
    tokio::spawn(async move {
        let mut left = refuse;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
            let (head, body) = loop {
                let n = stream.read(&mut buffer).await.unwrap();
                bytes.extend_from_slice(&buffer[..n]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| {
                        line.to_lowercase()
                            .strip_prefix("content-length: ")
                            .map(str::to_owned)
                    });
                    if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
                        break (head.to_owned(), body.to_owned());
                    }
                }
            };
            let status = if left > 0 { "503 No" } else { "200 OK" };
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if left > 0 {
                left -= 1;
                continue;
            }
            send.send((head, serde_json::from_str(&body).unwrap()))
                .await
                .unwrap();
        }
    });
    (url, receive)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_although_the_receiver_fails_first() {
    let (url, mut received) = receiver(2).await;
    let yaml = format!(
        "webhooks: [{{url: '{url}', events: [push, delete], repositories: ['team/**'], headers: {{X-Mine: yes}}, secret: s3}}]"
    );
    let registry = Registry::start(&yaml).await;
    registry.image("other", "t", "x").await;
    let digest = registry.image("team/app", "t", "x").await;
    registry.get("/v2/team/app/manifests/t").await;
    assert_eq!(registry.delete("/v2/team/app/manifests/t").await, 202);
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let next = tokio::time::timeout(Duration::from_secs(20), received.recv())
            .await
            .expect("an event arrives");
        let (head, envelope) = next.unwrap();
        assert!(
            head.to_lowercase().contains("x-mine: yes")
                && head.contains("x-wharf-signature: sha256="),
            "{head}"
        );
        assert!(head.contains("application/vnd.docker.distribution.events.v1+json"));
        seen.push(envelope["events"][0].clone());
    }
    let actions: Vec<&str> = seen
        .iter()
        .map(|event| event["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        ["push", "push", "push", "delete"],
        "config, layer, manifest; no pull"
    );
    let manifest = &seen[2]["target"];
    assert_eq!(manifest["repository"], "team/app");
    assert_eq!(
        (manifest["digest"].as_str(), manifest["tag"].as_str()),
        (Some(digest.as_str()), Some("t"))
    );
    assert!(
        manifest["url"]
            .as_str()
            .unwrap()
            .ends_with(&format!("/v2/team/app/manifests/{digest}"))
    );
    assert_eq!(seen[3]["target"]["tag"], "t");
}

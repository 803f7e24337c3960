//! What a container takes over from its image (moby `daemon/commit.go`, `merge`).

use wharf_api::container::{Config, Empty, HealthConfig};
use wharf_spec::image_config::{Healthcheck, RunConfig};

/// Fills what the user left open from the image.
pub fn merge(config: &mut Config, image: &RunConfig) {
    fill(&mut config.user, &image.user);
    for port in image.exposed_ports.keys() {
        config.exposed_ports.entry(port.clone()).or_insert(Empty {});
    }
    merge_env(config, image);
    let labels = config.labels.get_or_insert_default();
    for (key, value) in &image.labels {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    merge_command(config, image);
    if let Some(health) = &image.healthcheck {
        merge_health(config.healthcheck.get_or_insert_default(), health);
    }
    fill(&mut config.working_dir, &image.working_dir);
    // Nothing of one's own is what the image has, even if that is nothing (Go's nil).
    if config.volumes.as_ref().is_some_and(|own| own.is_empty()) {
        config.volumes = None;
    }
    if !image.volumes.is_empty() {
        let volumes = config.volumes.get_or_insert_default();
        volumes.extend(image.volumes.keys().map(|path| (path.clone(), Empty {})));
    }
    fill(&mut config.stop_signal, &image.stop_signal);
}

fn fill(field: &mut String, value: &str) {
    if field.is_empty() {
        value.clone_into(field);
    }
}

fn merge_env(config: &mut Config, image: &RunConfig) {
    fn key(entry: &str) -> &str {
        entry.split_once('=').map_or(entry, |(key, _)| key)
    }
    if is_empty(config.env.as_ref()) {
        config.env = (!image.env.is_empty()).then(|| image.env.clone());
        return;
    }
    let own = config.env.get_or_insert_default();
    let given = own.len();
    for entry in &image.env {
        if !own[..given].iter().any(|mine| key(mine) == key(entry)) {
            own.push(entry.clone());
        }
    }
}

fn merge_command(config: &mut Config, image: &RunConfig) {
    if !is_empty(config.entrypoint.as_ref()) {
        return;
    }
    if is_empty(config.cmd.as_ref()) {
        config.cmd.clone_from(&image.cmd);
    }
    // An empty list, unlike none, resets the image's entry point.
    if config.entrypoint.is_none() {
        config.entrypoint.clone_from(&image.entrypoint);
    }
}

/// Whether a list is absent or empty.
pub fn is_empty(list: Option<&Vec<String>>) -> bool {
    list.is_none_or(Vec::is_empty)
}

fn merge_health(own: &mut HealthConfig, image: &Healthcheck) {
    if own.test.is_empty() {
        own.test.clone_from(&image.test);
    }
    let numbers = [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ];
    for (mine, theirs) in numbers {
        if *mine == 0 {
            *mine = theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        (text != "-").then(|| text.split_whitespace().map(str::to_owned).collect())
    }

    fn check(own: [&str; 2], image: [&str; 2], expected: [&str; 2]) {
        let mut config = Config {
            entrypoint: words(own[0]),
            cmd: words(own[1]),
            ..Config::default()
        };
        let image = RunConfig {
            entrypoint: words(image[0]),
            cmd: words(image[1]),
            ..RunConfig::default()
        };
        merge(&mut config, &image);
        assert_eq!(
            [config.entrypoint, config.cmd],
            expected.map(words),
            "{own:?}"
        );
    }

    #[test]
    fn commands_are_merged_as_docker_does() {
        check(["-", "-"], ["e", "c"], ["e", "c"]);
        check(["-", "x"], ["e", "c"], ["e", "x"]);
        check(["x", "-"], ["e", "c"], ["x", "-"]);
        check(["", "-"], ["e", "c"], ["", "c"]);
        check(["x", "y"], ["e", "c"], ["x", "y"]);
    }

    #[test]
    fn own_values_win_over_the_images() {
        let mut config = Config {
            env: Some(vec!["A=1".into(), "EMPTY".into()]),
            labels: Some([("l".to_owned(), "mine".to_owned())].into()),
            ..Config::default()
        };
        let image = RunConfig {
            env: vec!["A=2".into(), "B=3".into(), "EMPTY=4".into()],
            labels: [
                ("l".to_owned(), "theirs".to_owned()),
                ("m".to_owned(), "new".to_owned()),
            ]
            .into(),
            user: "nobody".into(),
            ..RunConfig::default()
        };
        merge(&mut config, &image);
        assert_eq!(config.env.expect("env"), ["A=1", "EMPTY", "B=3"]);
        assert_eq!(config.labels.expect("labels")["l"], "mine");
        assert_eq!(config.user, "nobody");
    }
}

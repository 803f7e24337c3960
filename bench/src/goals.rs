//! What is to be reached, value by value, beside what a reference engine needed when the goal was set.
//!
//! Milliseconds depend on the machine; the ratio to a reference measured in the same run does not. A goal that has a peer's figure holds if
//! either does: the value itself, or its ratio to the reference.

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

/// The goal of one value of one case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    /// The case and the value, as the table prints them.
    pub(crate) label: &'static str,
    /// What must be reached.
    pub(crate) must: f64,
    /// What Debian's dockerd 20.10 needed when the goal was set, on two idle cores.
    pub(crate) peer: Option<f64>,
    /// Which way is better.
    pub(crate) better: Better,
}

impl Goal {
    /// The ratio to the reference that is to be reached.
    pub(crate) fn ratio(&self) -> Option<f64> {
        match self.better {
            Better::Less => self.peer.map(|peer| self.must / peer),
            Better::More => Some(self.peer.map_or(1.0, |peer| self.must / peer)),
        }
    }

    /// Whether a value of ours, and of the reference beside it, is good enough.
    pub(crate) fn holds(&self, ours: f64, reference: Option<f64>) -> bool {
        let reached = |value: f64, goal: f64| match self.better {
            Better::Less => value <= goal,
            Better::More => value >= goal,
        };
        let by_ratio = match (reference, self.ratio()) {
            (Some(theirs), Some(goal)) => reached(ours / theirs, goal),
            _ => false,
        };
        reached(ours, self.must) || by_ratio
    }
}

const fn less(label: &'static str, must: f64, peer: f64) -> Goal {
    Goal {
        label,
        must,
        peer: Some(peer),
        better: Better::Less,
    }
}

/// Where the figure itself counts, whatever others need.
const fn at_most(label: &'static str, must: f64) -> Goal {
    Goal {
        label,
        must,
        peer: None,
        better: Better::Less,
    }
}

/// So many, or as many times what the peer manages.
const fn at_least(label: &'static str, must: f64, peer: f64) -> Goal {
    Goal {
        label,
        must,
        peer: Some(peer),
        better: Better::More,
    }
}

/// As many as the reference in the same run.
const fn not_below(label: &'static str) -> Goal {
    Goal {
        label,
        must: f64::INFINITY,
        peer: None,
        better: Better::More,
    }
}

/// The goal of a value, if it has one.
pub(crate) fn find(label: &str) -> Option<&'static Goal> {
    GOALS.iter().find(|goal| goal.label == label)
}

static GOALS: &[Goal] = &[
    less("api-bridge.total", 12.0, 265.0),
    less("api-none.total", 9.0, 203.0),
    less("run-bridge", 32.0, 264.0),
    at_most("wharf-run", 15.0),
    less("exec", 5.0, 48.0),
    less("daemon-start.0", 40.0, 553.0),
    less("daemon-start.300", 80.0, 1_081.0),
    at_most("memory.0 MiB", 20.0),
    at_most("memory.100 MiB", 60.0),
    at_most("memory.300 MiB", 140.0),
    less("attach", 1_200.0, 6_200.0),
    less("log-write", 800.0, 2_600.0),
    less("log-read", 1_000.0, 6_100.0),
    less("load", 3_000.0, 4_200.0),
    at_most("many-create.at 300", 20.0),
    less("many-up", 1_500.0, 14_000.0),
    less("many-list.ps -a", 22.0, 38.0),
    less("many-list.api", 4.0, 18.0),
    less("many-stats", 1_200.0, 3_000.0),
    less("stop-kill", 10.0, 82.0),
    at_most("live-restart", 100.0),
    at_most("net-run-port.extra", 2.0),
    at_most("net-200-ports.extra", 15.0),
    less("net-create.create", 5.0, 44.0),
    less("net-create.rm", 5.0, 123.0),
    not_below("net-requests.loopback k/s"),
    not_below("net-requests.machine k/s"),
    not_below("net-requests.direct k/s"),
    not_below("net-throughput.Gbit/s"),
    less("pull", 2_800.0, 5_300.0),
    at_most("pull.peak memory (MiB)", 64.0),
    less("push", 6_000.0, 31_700.0),
    less("save", 2_000.0, 4_600.0),
    less("import", 400.0, 850.0),
    less("commit", 300.0, 670.0),
    less("cp.in", 500.0, 860.0),
    less("cp.out", 600.0, 1_650.0),
    less("build.no cache", 350.0, 2_400.0),
    less("build.cached", 60.0, 90.0),
    less("build-cached", 60.0, 90.0),
    less("build-10000", 1_200.0, 6_200.0),
    // The peer of the registry server is Debian's docker-registry 2.8.
    at_least("registry-manifest.requests/s", 20_000.0, 1_970.0),
    less("registry-manifest.peak memory (MiB)", 40.0, 73.0),
    at_least("registry-blob.GB/s", 4.0, 2.0),
    less("registry-blob.peak memory (MiB)", 40.0, 73.0),
    less("registry-push", 800.0, 3_600.0),
    less("registry-push.peak memory (MiB)", 40.0, 73.0),
    at_most("registry-500.peak memory (MiB)", 100.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_holds_by_its_value_or_by_its_ratio() {
        let exec = find("exec").expect("it has a goal");
        assert!(exec.holds(4.0, None));
        assert!(!exec.holds(9.0, None));
        assert!(exec.holds(9.0, Some(90.0)));
        assert!(!exec.holds(9.0, Some(45.0)));
        let throughput = find("net-throughput.Gbit/s").expect("it has a goal");
        assert!(throughput.holds(16.1, Some(16.0)));
        assert!(!throughput.holds(15.9, Some(16.0)));
        assert!(!throughput.holds(15.9, None));
        let memory = find("memory.0 MiB").expect("it has a goal");
        assert!(!memory.holds(26.0, Some(2_600.0)));
    }
}

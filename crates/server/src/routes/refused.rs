//! Endpoints that exist in Docker's API and are answered with a refusal here.

/// Not built yet: 501. (method, pattern)
pub const NOT_IMPLEMENTED: &[(&str, &str)] = &[
    ("GET", "/containers/{name}/checkpoints"),
    ("POST", "/containers/{name}/checkpoints"),
    ("DELETE", "/containers/{name}/checkpoints/{checkpoint}"),
    ("POST", "/grpc"),
    ("POST", "/plugins/create"),
    ("GET", "/plugins/privileges"),
    ("POST", "/plugins/pull"),
    ("GET", "/plugins/{name:.*}/json"),
    ("POST", "/plugins/{name:.*}/disable"),
    ("POST", "/plugins/{name:.*}/enable"),
    ("POST", "/plugins/{name:.*}/push"),
    ("POST", "/plugins/{name:.*}/set"),
    ("POST", "/plugins/{name:.*}/upgrade"),
    ("DELETE", "/plugins/{name:.*}"),
    ("POST", "/session"),
];

/// Need a swarm, which this engine never joins: 503, as a Docker daemon outside a swarm answers.
pub const SWARM: &[(&str, &str)] = &[
    ("GET", "/swarm"),
    ("GET", "/swarm/unlockkey"),
    ("POST", "/swarm/init"),
    ("POST", "/swarm/join"),
    ("POST", "/swarm/leave"),
    ("POST", "/swarm/unlock"),
    ("POST", "/swarm/update"),
    ("GET", "/services"),
    ("GET", "/services/{id}"),
    ("GET", "/services/{id}/logs"),
    ("POST", "/services/create"),
    ("POST", "/services/{id}/update"),
    ("DELETE", "/services/{id}"),
    ("GET", "/nodes"),
    ("GET", "/nodes/{id}"),
    ("POST", "/nodes/{id}/update"),
    ("DELETE", "/nodes/{id}"),
    ("GET", "/tasks"),
    ("GET", "/tasks/{id}"),
    ("GET", "/tasks/{id}/logs"),
    ("GET", "/secrets"),
    ("GET", "/secrets/{id}"),
    ("POST", "/secrets/create"),
    ("POST", "/secrets/{id}/update"),
    ("DELETE", "/secrets/{id}"),
    ("GET", "/configs"),
    ("GET", "/configs/{id}"),
    ("POST", "/configs/create"),
    ("POST", "/configs/{id}/update"),
    ("DELETE", "/configs/{id}"),
    ("PUT", "/volumes/{name}"),
];

/// Docker's words for [`SWARM`].
pub const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

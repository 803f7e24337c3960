//! Which of a container's networks has the default route.

use std::cmp::Reverse;
use std::net::IpAddr;

use crate::link::DefaultRoute;
use crate::record::Endpoint;

/// Positions of the endpoints with the IPv4 and the IPv6 default route.
///
/// The highest priority first, then whoever leads out by both families, then the network's name (moby's order of
/// endpoints in a sandbox). Endpoints without a gateway, internal ones among them, are never chosen.
pub(crate) fn choose(endpoints: &[Endpoint]) -> (Option<usize>, Option<usize>) {
    let mut order: Vec<usize> = (0..endpoints.len()).collect();
    order.sort_by_key(|position| {
        let endpoint = &endpoints[*position];
        let ways = u8::from(leads_out4(endpoint)) + u8::from(leads_out6(endpoint));
        (
            Reverse(endpoint.gw_priority),
            Reverse(ways),
            endpoint.network_name.clone(),
        )
    });
    let first = |leads_out: fn(&Endpoint) -> bool| {
        order
            .iter()
            .copied()
            .find(|position| leads_out(&endpoints[*position]))
    };
    (first(leads_out4), first(leads_out6))
}

fn leads_out4(endpoint: &Endpoint) -> bool {
    endpoint.gateway.is_some() || endpoint.device_route && endpoint.address.is_some()
}

fn leads_out6(endpoint: &Endpoint) -> bool {
    endpoint.gateway6.is_some() || endpoint.device_route && endpoint.address6.is_some()
}

/// The default routes that the endpoint at `position` has, of those [`choose`] chose.
pub(crate) fn routes(
    endpoints: &[Endpoint],
    position: usize,
    chosen: (Option<usize>, Option<usize>),
) -> Vec<DefaultRoute> {
    let endpoint = &endpoints[position];
    let by = |gateway: Option<IpAddr>, ipv6| {
        gateway.map_or(DefaultRoute::Device { ipv6 }, DefaultRoute::By)
    };
    let v4 = (chosen.0 == Some(position)).then(|| by(endpoint.gateway, false));
    let v6 = (chosen.1 == Some(position)).then(|| by(endpoint.gateway6.map(IpAddr::V6), true));
    v4.into_iter().chain(v6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str, v4: bool, v6: bool, gw_priority: i64) -> Endpoint {
        Endpoint {
            network_name: name.into(),
            gateway: v4.then(|| [10, 0, 0, 1].into()),
            gateway6: v6.then_some(std::net::Ipv6Addr::LOCALHOST),
            gw_priority,
            ..Endpoint::default()
        }
    }

    #[test]
    fn priority_then_families_then_name() {
        let rows = [
            (
                vec![endpoint("b", true, false, 0), endpoint("a", true, false, 0)],
                (Some(1), None),
            ),
            (
                vec![endpoint("a", true, false, 0), endpoint("b", true, false, 1)],
                (Some(1), None),
            ),
            (
                vec![endpoint("a", true, false, 0), endpoint("b", true, true, 0)],
                (Some(1), Some(1)),
            ),
            (
                vec![endpoint("a", true, false, 0), endpoint("b", false, true, 0)],
                (Some(0), Some(1)),
            ),
            (
                vec![
                    endpoint("internal", false, false, 9),
                    endpoint("b", true, false, -1),
                ],
                (Some(1), None),
            ),
            (vec![endpoint("internal", false, false, 0)], (None, None)),
            (vec![], (None, None)),
        ];
        for (endpoints, expected) in rows {
            assert_eq!(choose(&endpoints), expected, "{endpoints:?}");
        }
    }
}

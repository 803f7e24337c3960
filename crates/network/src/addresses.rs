//! The addresses of one network: its subnets of both families, with gateways and reserved addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::NetworkError;
use crate::ipam::{AddressPool, Refusal};
use crate::record::{Endpoint, EndpointRequest, NetworkRecord, SubnetRecord};

/// The subnets of a network. Several of one family exist with the macvlan and ipvlan drivers only.
#[derive(Debug)]
pub(crate) struct Addresses {
    v4: Vec<Subnet>,
    v6: Vec<Subnet>,
    /// Whether containers may wish for an address.
    fixed: bool,
}

/// One subnet with its pool.
#[derive(Debug)]
pub(crate) struct Subnet {
    pool: AddressPool,
    pub(crate) gateway: Option<IpAddr>,
    /// Where containers send what leaves the network, when that is not the gateway
    /// (`DefaultGatewayIPv4` among the auxiliary addresses, as Docker stores `--default-gateway`).
    route: Option<IpAddr>,
}

/// The addresses of one endpoint.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) v4: Option<Address<Ipv4Addr>>,
    pub(crate) v6: Option<Address<Ipv6Addr>>,
}

/// An address with what follows from its subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address<T> {
    pub(crate) address: T,
    pub(crate) prefix_len: u8,
    pub(crate) gateway: Option<T>,
}

/// Names of auxiliary addresses that are gateways of containers (moby `bridge.DefaultGatewayV4AuxKey`).
const ROUTE_KEYS: [&str; 2] = ["DefaultGatewayIPv4", "DefaultGatewayIPv6"];

impl Addresses {
    pub(crate) fn from_record(record: &NetworkRecord) -> Result<Addresses, NetworkError> {
        let mut addresses = Addresses {
            v4: Vec::new(),
            v6: Vec::new(),
            fixed: record.ipam.user_chosen,
        };
        for config in &record.ipam.config {
            let subnet = Subnet::from_record(config)?;
            match subnet.net() {
                IpNet::V4(_) if record.enable_ipv4 => addresses.v4.push(subnet),
                IpNet::V6(_) if record.enable_ipv6 => addresses.v6.push(subnet),
                // Subnets of a family that is off are stored as given, and not used (as Docker does).
                _ => {}
            }
        }
        Ok(addresses)
    }

    pub(crate) fn v4(&self) -> &[Subnet] {
        &self.v4
    }

    pub(crate) fn v6(&self) -> &[Subnet] {
        &self.v6
    }

    /// Takes one address of each family the network has. All or none.
    pub(crate) fn take(
        &mut self,
        record: &NetworkRecord,
        request: &EndpointRequest,
    ) -> Result<Taken, NetworkError> {
        let wish6 = request.address6.map(IpAddr::V6);
        if !self.fixed && (request.address.is_some() || wish6.is_some()) {
            return Err(NetworkError::AddressNotSupported);
        }
        let v4 = take_from(&mut self.v4, request.address, record)?;
        let v6 = match take_from(&mut self.v6, wish6, record) {
            Ok(v6) => v6,
            Err(error) => {
                if let Some(v4) = v4 {
                    release_to(&mut self.v4, v4.address);
                }
                return Err(error);
            }
        };
        Ok(Taken {
            v4: v4.and_then(Address::v4),
            v6: v6.and_then(Address::v6),
        })
    }

    /// Keeps the addresses of an endpoint that lives from before.
    pub(crate) fn adopt(&mut self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        for address in endpoint.addresses() {
            let subnets = if address.is_ipv4() {
                &mut self.v4
            } else {
                &mut self.v6
            };
            subnets
                .iter_mut()
                .find(|subnet| subnet.net().contains(&address))
                .ok_or(Refusal::OutOfRange)
                .and_then(|subnet| subnet.pool.take(address))
                .map_err(|refusal| wish_refused(refusal, address))?;
        }
        Ok(())
    }

    /// Gives the endpoint's addresses back.
    pub(crate) fn release(&mut self, endpoint: &Endpoint) {
        for address in endpoint.addresses() {
            if address.is_ipv4() {
                release_to(&mut self.v4, address);
            } else {
                release_to(&mut self.v6, address);
            }
        }
    }
}

impl Subnet {
    fn from_record(config: &SubnetRecord) -> Result<Subnet, NetworkError> {
        let net: IpNet = parse(&config.subnet, "subnet")?;
        let optional = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let range = optional(&config.ip_range)
            .map(|text| parse::<IpNet>(&text, "IP range"))
            .transpose()?;
        let gateway = optional(&config.gateway)
            .map(|text| parse::<IpAddr>(&text, "gateway address"))
            .transpose()?;
        let mut pool = AddressPool::new(net, range);
        let mut route = None;
        for (name, text) in &config.aux_addresses {
            let address: IpAddr = parse(text, "auxiliary address")?;
            if ROUTE_KEYS.contains(&name.as_str()) {
                route = Some(address);
            }
            // Two names may reserve one address.
            let _ = pool.take(address);
        }
        if let Some(gateway) = gateway {
            let _ = pool.take(gateway);
        }
        Ok(Subnet {
            pool,
            gateway,
            route,
        })
    }

    pub(crate) fn net(&self) -> IpNet {
        self.pool.subnet()
    }

    /// Gateway with the subnet's prefix length, as an interface has it.
    pub(crate) fn interface_address(&self) -> Option<IpNet> {
        IpNet::new(self.gateway?, self.net().prefix_len()).ok()
    }

    fn shape(&self, address: IpAddr) -> Address<IpAddr> {
        Address {
            address,
            prefix_len: self.net().prefix_len(),
            gateway: self.route.or(self.gateway),
        }
    }
}

impl Address<IpAddr> {
    fn v4(self) -> Option<Address<Ipv4Addr>> {
        let only = |address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        };
        Some(Address {
            address: only(self.address)?,
            prefix_len: self.prefix_len,
            gateway: self.gateway.and_then(only),
        })
    }

    fn v6(self) -> Option<Address<Ipv6Addr>> {
        let only = |address| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        };
        Some(Address {
            address: only(self.address)?,
            prefix_len: self.prefix_len,
            gateway: self.gateway.and_then(only),
        })
    }
}

/// An address of the first subnet that has one; nothing from a family the network does not have.
fn take_from(
    subnets: &mut [Subnet],
    wish: Option<IpAddr>,
    record: &NetworkRecord,
) -> Result<Option<Address<IpAddr>>, NetworkError> {
    if let Some(wish) = wish {
        let subnet = subnets
            .iter_mut()
            .find(|subnet| subnet.net().contains(&wish))
            .ok_or(NetworkError::NoSubnetContains(wish))?;
        let address = subnet
            .pool
            .take(wish)
            .map_err(|refusal| wish_refused(refusal, wish))?;
        return Ok(Some(subnet.shape(address)));
    }
    if subnets.is_empty() {
        return Ok(None);
    }
    for subnet in subnets.iter_mut() {
        if let Ok(address) = subnet.pool.take_any() {
            return Ok(Some(subnet.shape(address)));
        }
    }
    let family = if matches!(subnets[0].net(), IpNet::V4(_)) {
        4
    } else {
        6
    };
    Err(NetworkError::NoAddressLeft {
        family,
        name: record.name.clone(),
        id: record.id.clone(),
    })
}

fn release_to(subnets: &mut [Subnet], address: IpAddr) {
    if let Some(subnet) = subnets
        .iter_mut()
        .find(|subnet| subnet.net().contains(&address))
    {
        subnet.pool.release(address);
    }
}

fn wish_refused(refusal: Refusal, address: IpAddr) -> NetworkError {
    match refusal {
        Refusal::Taken | Refusal::Exhausted => NetworkError::AddressInUse(address),
        Refusal::OutOfRange => NetworkError::AddressOutOfRange(address),
    }
}

fn parse<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, NetworkError> {
    text.parse()
        .map_err(|_| NetworkError::Invalid(format!("invalid {what}: {text}")))
}

//! What a transaction is made of. `Display` is the syntax of `nft`, so that a plan reads like a script and compares with
//! `nft list`.

use std::fmt;
use std::net::IpAddr;

use super::statement::Statement;

/// Our table. Nobody else's is touched.
pub(super) const TABLE: &str = "wharf-bridges";

/// Address family of a table of ours; there is one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        }
    }

    /// `NFPROTO_*`.
    pub(super) fn number(self) -> u8 {
        match self {
            Family::Ipv4 => 2,
            Family::Ipv6 => 10,
        }
    }

    /// As `nft` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        }
    }

    /// Bytes of an address.
    pub(super) fn length(self) -> u32 {
        match self {
            Family::Ipv4 => 4,
            Family::Ipv6 => 16,
        }
    }
}

/// One step of a transaction, in [`TABLE`] of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) family: Family,
    pub(super) action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    AddTable,
    DeleteTable,
    AddChain {
        name: String,
        hook: Option<Hook>,
    },
    /// Removes the chain's rules.
    FlushChain {
        name: String,
    },
    DeleteChain {
        name: String,
    },
    AddRule {
        chain: String,
        statements: Vec<Statement>,
    },
    AddSet(Set),
    AddElement {
        set: &'static str,
        element: Element,
    },
    DeleteElement {
        set: &'static str,
        element: Element,
    },
}

/// Where the kernel enters a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) point: HookPoint,
    pub(super) priority: i32,
}

/// `enum nf_inet_hooks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum HookPoint {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A set, or a map when it has a value type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) key: Vec<Type>,
    pub(super) value: Option<Vec<Type>>,
    /// Keys are ranges.
    pub(super) interval: bool,
}

/// Types of keys and values, with nft's own numbers (`enum datatypes` in its sources), which only `nft list` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Address(Family),
    Protocol,
    Port,
    InterfaceName,
    Verdict,
}

impl Type {
    pub(super) fn number(self) -> u32 {
        match self {
            Type::Address(Family::Ipv4) => 7,
            Type::Address(Family::Ipv6) => 8,
            Type::Protocol => 12,
            Type::Port => 13,
            Type::InterfaceName => 41,
            Type::Verdict => 0xffff_ff00,
        }
    }

    pub(super) fn length(self) -> u32 {
        match self {
            Type::Address(family) => family.length(),
            Type::Protocol => 1,
            Type::Port => 2,
            Type::InterfaceName | Type::Verdict => 16,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Type::Address(Family::Ipv4) => "ipv4_addr",
            Type::Address(Family::Ipv6) => "ipv6_addr",
            Type::Protocol => "inet_proto",
            Type::Port => "inet_service",
            Type::InterfaceName => "ifname",
            Type::Verdict => "verdict",
        }
    }
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Key,
    pub(super) value: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Fields(Vec<Field>),
    /// First and last address.
    Range(IpAddr, IpAddr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Fields(Vec<Field>),
    Jump(String),
}

/// A number in a key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Address(IpAddr),
    Protocol(u8),
    Port(u16),
    Interface(String),
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = format!("{} {TABLE}", self.family.name());
        match &self.action {
            Action::AddTable => write!(f, "add table {table}"),
            Action::DeleteTable => write!(f, "delete table {table}"),
            Action::AddChain { name, hook: None } => write!(f, "add chain {table} {name}"),
            Action::AddChain {
                name,
                hook: Some(hook),
            } => write!(f, "add chain {table} {name} {{ {hook} }}"),
            Action::FlushChain { name } => write!(f, "flush chain {table} {name}"),
            Action::DeleteChain { name } => write!(f, "delete chain {table} {name}"),
            Action::AddRule { chain, statements } => {
                write!(f, "add rule {table} {chain}")?;
                statements
                    .iter()
                    .try_for_each(|statement| write!(f, " {statement}"))
            }
            Action::AddSet(set) => set.write(f, &table),
            Action::AddElement { set, element } => {
                write!(f, "add element {table} {set} {{ {element} }}")
            }
            Action::DeleteElement { set, element } => {
                write!(f, "delete element {table} {set} {{ {element} }}")
            }
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = match self.point {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
        };
        write!(
            f,
            "type {} hook {point} priority {}; policy accept;",
            self.kind, self.priority
        )
    }
}

impl Set {
    fn write(&self, f: &mut fmt::Formatter<'_>, table: &str) -> fmt::Result {
        let names = |types: &[Type]| {
            types
                .iter()
                .map(|kind| kind.name())
                .collect::<Vec<_>>()
                .join(" . ")
        };
        let word = if self.value.is_some() { "map" } else { "set" };
        write!(
            f,
            "add {word} {table} {} {{ type {}",
            self.name,
            names(&self.key)
        )?;
        if let Some(value) = &self.value {
            write!(f, " : {}", names(value))?;
        }
        write!(
            f,
            ";{} }}",
            if self.interval {
                " flags interval;"
            } else {
                ""
            }
        )
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Key::Fields(fields) => write_fields(f, fields)?,
            Key::Range(first, last) => write!(f, "{first}-{last}")?,
        }
        match &self.value {
            None => Ok(()),
            Some(Value::Jump(chain)) => write!(f, " : jump {chain}"),
            Some(Value::Fields(fields)) => {
                write!(f, " : ")?;
                write_fields(f, fields)
            }
        }
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[Field]) -> fmt::Result {
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            write!(f, " . ")?;
        }
        match field {
            Field::Address(address) => write!(f, "{address}")?,
            Field::Protocol(number) => write!(f, "{number}")?,
            Field::Port(port) => write!(f, "{port}")?,
            Field::Interface(name) => write!(f, "\"{name}\"")?,
        }
    }
    Ok(())
}

//! What kind of place an address is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::host::within;

/// The kind of place that an address leads to (IANA special-purpose registries, RFC 6890).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressClass {
    /// Anywhere on the internet.
    Public,
    /// This machine.
    Loopback,
    /// This network segment.
    LinkLocal,
    /// The service of a cloud that hands out a machine's credentials.
    Metadata,
    /// A private network (RFC 1918, RFC 4193).
    Private,
    /// Behind the provider's address translation (RFC 6598).
    Cgnat,
    /// A group.
    Multicast,
    /// Everybody on the segment.
    Broadcast,
    /// No address; on Linux it leads to this machine.
    Unspecified,
    /// Documentation, benchmarks, future use.
    Reserved,
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Metadata => "cloud metadata",
            Self::Private => "private",
            Self::Cgnat => "carrier-grade NAT",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Unspecified => "unspecified",
            Self::Reserved => "reserved",
        })
    }
}

const METADATA_4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// The more special blocks come first.
const BLOCKS_4: &[(Ipv4Addr, u8, AddressClass)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, AddressClass::Unspecified),
    (Ipv4Addr::new(10, 0, 0, 0), 8, AddressClass::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, AddressClass::Cgnat),
    (Ipv4Addr::new(127, 0, 0, 0), 8, AddressClass::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, AddressClass::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, AddressClass::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, AddressClass::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, AddressClass::Reserved),
    (Ipv4Addr::new(192, 88, 99, 0), 24, AddressClass::Reserved),
    (Ipv4Addr::new(192, 168, 0, 0), 16, AddressClass::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, AddressClass::Reserved),
    (Ipv4Addr::new(198, 51, 100, 0), 24, AddressClass::Reserved),
    (Ipv4Addr::new(203, 0, 113, 0), 24, AddressClass::Reserved),
    (Ipv4Addr::new(224, 0, 0, 0), 4, AddressClass::Multicast),
    (Ipv4Addr::new(255, 255, 255, 255), 32, AddressClass::Broadcast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, AddressClass::Reserved),
];

const BLOCKS_6: &[(Ipv6Addr, u8, AddressClass)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, AddressClass::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, AddressClass::Loopback),
    // NAT64 of local networks: what is embedded depends on the network (RFC 8215).
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, AddressClass::Private),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, AddressClass::Private),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, AddressClass::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, AddressClass::Private),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, AddressClass::Multicast),
    // Benchmarks, ORCHID and the rest of the IETF's assignments; Teredo is looked into before.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, AddressClass::Reserved),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, AddressClass::Reserved),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, AddressClass::Reserved),
];

/// The class of an address. An IPv6 address that carries an IPv4 address (mapped, compatible, translated, 6to4,
/// NAT64, Teredo, ISATAP) has the class of the address inside.
#[must_use]
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify4(address),
        IpAddr::V6(address) => classify6(address),
    }
}

fn classify4(address: Ipv4Addr) -> AddressClass {
    if METADATA_4.contains(&address) {
        return AddressClass::Metadata;
    }
    let inside = |&&(network, prefix, _): &&(Ipv4Addr, u8, AddressClass)| {
        within(IpAddr::V4(address), IpAddr::V4(network), prefix)
    };
    BLOCKS_4.iter().find(inside).map_or(AddressClass::Public, |&(_, _, class)| class)
}

fn classify6(address: Ipv6Addr) -> AddressClass {
    if METADATA_6.contains(&address) {
        return AddressClass::Metadata;
    }
    let block = |&&(network, prefix, _): &&(Ipv6Addr, u8, AddressClass)| {
        within(IpAddr::V6(address), IpAddr::V6(network), prefix)
    };
    // `::1` and `::` look like IPv4-compatible addresses and are not.
    if address == Ipv6Addr::UNSPECIFIED || address == Ipv6Addr::LOCALHOST {
        return BLOCKS_6.iter().find(block).map_or(AddressClass::Reserved, |&(_, _, class)| class);
    }
    if let Some(inside) = embedded(address) {
        return classify4(inside);
    }
    if let Some(&(_, _, class)) = BLOCKS_6.iter().find(block) {
        return class;
    }
    // Only 2000::/3 is given out as public.
    if address.segments()[0] & 0xe000 == 0x2000 { AddressClass::Public } else { AddressClass::Reserved }
}

/// The IPv4 address inside an IPv6 address, where there is one.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = Ipv4Addr::from_bits((address.to_bits() & u128::from(u32::MAX)) as u32);
    let at = |shift: u32| Ipv4Addr::from_bits(((address.to_bits() >> shift) & u128::from(u32::MAX)) as u32);
    match address.segments() {
        // Mapped ::ffff:a.b.c.d, compatible ::a.b.c.d, translated ::ffff:0:a.b.c.d (RFC 4291, RFC 2765).
        [0, 0, 0, 0, 0, 0xffff | 0, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => Some(low),
        // NAT64 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(low),
        // 6to4 (RFC 3056).
        [0x2002, ..] => Some(at(80)),
        // Teredo holds the client's address inverted (RFC 4380).
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!low.to_bits())),
        // ISATAP (RFC 5214).
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => Some(low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_addresses() {
        use AddressClass as C;
        for (text, class) in [
            ("1.1.1.1", C::Public),
            ("2606:4700::1111", C::Public),
            ("127.0.0.1", C::Loopback),
            ("127.255.0.3", C::Loopback),
            ("::1", C::Loopback),
            ("::", C::Unspecified),
            ("0.0.0.0", C::Unspecified),
            ("0.1.2.3", C::Unspecified),
            ("10.1.2.3", C::Private),
            ("172.16.0.1", C::Private),
            ("172.31.255.255", C::Private),
            ("172.32.0.1", C::Public),
            ("192.168.0.1", C::Private),
            ("169.254.1.1", C::LinkLocal),
            ("169.254.169.254", C::Metadata),
            ("fd00:ec2::254", C::Metadata),
            ("100.100.100.200", C::Metadata),
            ("100.64.0.1", C::Cgnat),
            ("224.0.0.1", C::Multicast),
            ("ff02::1", C::Multicast),
            ("255.255.255.255", C::Broadcast),
            ("240.0.0.1", C::Reserved),
            ("198.18.0.1", C::Reserved),
            ("198.19.255.255", C::Reserved),
            ("192.0.2.1", C::Reserved),
            ("2001:db8::1", C::Reserved),
            ("fe80::1", C::LinkLocal),
            ("fc00::1", C::Private),
            ("fec0::1", C::Private),
            ("::ffff:127.0.0.1", C::Loopback),
            ("::127.0.0.1", C::Loopback),
            ("64:ff9b::10.0.0.1", C::Private),
            ("64:ff9b::1.1.1.1", C::Public),
            ("64:ff9b:1::1.1.1.1", C::Private),
            ("2002:7f00:1::", C::Loopback),
            ("2002:101:101::", C::Public),
            ("2001:0:1:2:3:4:80ff:fffe", C::Loopback),
            ("::ffff:169.254.169.254", C::Metadata),
            ("2001:db8::5efe:127.0.0.1", C::Loopback),
            ("2606:4700:0:0:0:5efe:7f00:1", C::Loopback),
            ("4000::1", C::Reserved),
        ] {
            assert_eq!(classify(text.parse().unwrap()), class, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_address_inside_another_keeps_its_class(bits in any::<u32>(), rest in any::<u64>()) {
            let inside = Ipv4Addr::from_bits(bits);
            // These two are addresses of IPv6 in their own right.
            prop_assume!(bits > 1);
            let class = classify(IpAddr::V4(inside));
            let wide = u128::from(bits);
            let rest = u128::from(rest);
            for outside in [
                inside.to_ipv6_mapped(),
                Ipv6Addr::from_bits(wide),
                Ipv6Addr::from_bits((0x64_ff9b << 96) | wide),
                Ipv6Addr::from_bits((0x2002 << 112) | (wide << 80) | rest),
                Ipv6Addr::from_bits((0x2001_0000 << 96) | (rest << 32) | u128::from(!bits)),
            ] {
                prop_assert_eq!(classify(IpAddr::V6(outside)), class, "{}", outside);
            }
        }

        #[test]
        fn what_the_standard_library_calls_special_is_not_public(bits in any::<u32>()) {
            let address = Ipv4Addr::from_bits(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation();
            prop_assert!(!special || classify(IpAddr::V4(address)) != AddressClass::Public);
        }

        #[test]
        fn special_blocks_are_never_public(index in 0..BLOCKS_4.len(), host in any::<u32>()) {
            let (network, prefix, _) = BLOCKS_4[index];
            let below = host & !super::super::host::mask4(prefix).to_bits();
            let address = Ipv4Addr::from_bits(network.to_bits() | below);
            prop_assert_ne!(classify(IpAddr::V4(address)), AddressClass::Public);
        }
    }
}

//! Networks of one sandbox, without a bridge: what a build runs its steps in.
//!
//! ```text
//! bridge   eth0 ── veth ─┐                        pair   eth0 ── veth: the gateway's addresses
//!          eth0 ── veth ─┴ bridge: the gateway's addresses
//! ```
//!
//! To everybody else such a network is one like any other: its link on the host is named as its bridge would be. The kernel deletes it
//! with the sandbox's namespace, whoever was killed, and in half the time that a bridge takes (it waits for its readers once, not twice).
//! Its record says what to delete, and nothing that a boot needs.

use std::os::fd::{AsFd, BorrowedFd};

use crate::net::config::{EndpointConfig, NetworkConfig, SandboxConfig};
use crate::net::error::NetError;
use crate::net::networks::check_name;
use crate::net::plan::plan_links;
use crate::net::record::Attachment;
use crate::net::{Net, attached, link};

impl Net {
    /// Makes the network for the sandbox `id` alone, unless another one has it, and its link in the fresh namespace `netns`.
    ///
    /// Returns `None` where another one has it. The addresses are kept until [`Net::forget`].
    pub async fn attach_alone(
        &self,
        config: &NetworkConfig,
        id: &str,
        netns: BorrowedFd<'_>,
    ) -> Result<Option<Attachment>, NetError> {
        check_name(&config.name)?;
        let links = self.links().await?;
        let alone = self.changing.lock().await;
        let lock = self.store.lock_networks()?;
        let record = match self.store.network(&config.name)? {
            Some(record) if !record.is_pair => return Ok(None),
            Some(record) => record,
            None => self.create_record(links, config, true).await?,
        };
        if !self.store.leases(&config.name)?.holders.is_empty() {
            return Ok(None);
        }
        let endpoint = EndpointConfig {
            network: config.name.clone(),
            names: Vec::new(),
            address: None,
        };
        let sandbox = SandboxConfig {
            id: id.to_owned(),
            endpoints: vec![endpoint],
            ports: Vec::new(),
        };
        let leases = self.allocate(std::slice::from_ref(&sandbox))?;
        let records = [record];
        let mut plans = Vec::new();
        for leases in &leases {
            plans.extend(plan_links(&self.instance, &records, leases)?);
        }
        for (plan, record) in plans.iter_mut().zip(&records) {
            plan.host_link.clone_from(&record.bridge);
            links.add_gateway_pair(plan, record, netns.as_fd()).await?;
            self.put_into_force(record)?;
            // What there is to tell, a person hears with the containers' own networks.
            drop(self.get_on(record.subnets.iter().any(|s| s.range.is_ipv6()))?);
        }
        drop((lock, alone));
        let endpoints = attached(&records, &plans);
        link::configure(link::keep(netns)?, plans).await?;
        Ok(Some(Attachment {
            id: id.to_owned(),
            endpoints,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::os::fd::AsFd;

    use crate::net::testing::{
        REACHABLE_WITHIN, Server, UNREACHABLE_AFTER, add_outside, ask, network, on_host, sandbox,
    };
    use crate::sys::netns;

    fn links() -> Vec<String> {
        let text = fs_err::read_to_string("/proc/thread-self/net/dev").unwrap();
        let names = text.lines().skip(2);
        names
            .map(|line| line.split(':').next().unwrap().trim().to_owned())
            .collect()
    }

    #[test]
    fn a_pair_is_one_sandboxs_way_out_and_nobodys_way_in() {
        on_host(|host| async move {
            let outside = add_outside().await;
            let before = links();
            let _served = Server::start(&outside, 80);
            host.net.ensure_network(&network("web")).await.unwrap();
            let web = host.start(sandbox("w", &["web"])).await;
            let _web = Server::start(&web.netns, 80);
            let pair = network("pair");
            let netns = netns::create().unwrap();
            let attached = host
                .net
                .attach_alone(&pair, "a", netns.as_fd())
                .await
                .unwrap();
            let attached = attached.unwrap();
            let address = attached.endpoints[0].addresses[0].ip();
            let _own = Server::start(&netns, 80);
            let out: SocketAddr = "192.168.77.2:80".parse().unwrap();
            let seen = ask(&netns, out, REACHABLE_WITHIN);
            assert_eq!(seen.as_deref(), Some("192.168.77.1"));
            // Neither another network nor anybody outside reaches it, nor it them.
            for (from, to) in [
                (&netns, web.address(true)),
                (&web.netns, address),
                (&outside, address),
            ] {
                let to = SocketAddr::new(to, 80);
                assert_eq!(ask(from, to, UNREACHABLE_AFTER), None, "{to}");
            }
            // It has one.
            let other = netns::create().unwrap();
            let refused = host
                .net
                .attach_alone(&pair, "b", other.as_fd())
                .await
                .unwrap();
            assert_eq!(refused, None);
            // The next one takes it over, though the link of the last one is still there.
            host.net.forget(&["a"]).unwrap();
            let taken = host
                .net
                .attach_alone(&pair, "b", other.as_fd())
                .await
                .unwrap();
            assert_eq!(
                taken.unwrap().endpoints[0].host_link,
                attached.endpoints[0].host_link
            );
            let seen = ask(&other, out, REACHABLE_WITHIN);
            assert_eq!(seen.as_deref(), Some("192.168.77.1"));
            host.net.forget(&["b", "w"]).unwrap();
            host.net.remove_network("pair").await.unwrap();
            host.net.remove_network("web").await.unwrap();
            assert_eq!(links(), before);
            drop((netns, other));
        });
    }

    #[test]
    fn a_record_that_the_power_took_is_none() {
        on_host(|host| async move {
            let pair = network("pair");
            let netns = netns::create().unwrap();
            host.net
                .attach_alone(&pair, "a", netns.as_fd())
                .await
                .unwrap();
            let root = host.directory.path().join("1a2b3c4d/lib/networks");
            for content in [&b""[..], &[0; 100]] {
                for file in ["pair.json", "leases/pair.json"] {
                    fs_err::write(root.join(file), content).unwrap();
                }
                assert_eq!(host.net.networks().unwrap(), []);
                let again = netns::create().unwrap();
                let attached = host
                    .net
                    .attach_alone(&pair, "b", again.as_fd())
                    .await
                    .unwrap();
                assert_eq!(attached.map(|attached| attached.id).as_deref(), Some("b"));
            }
        });
    }
}

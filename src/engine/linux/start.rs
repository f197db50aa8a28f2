//! From a record to a running container.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::{LinuxHost, all};
use crate::engine::annotations::Annotations;
use crate::engine::etc;
use crate::engine::host::{HostError, HostResult};
use crate::engine::readable;
use crate::net::config::SandboxConfig;
use crate::net::ports::Reserved;
use crate::net::record::{Attachment, Leases, PublishedPort};
use crate::plan::naming;
use crate::runtime::Launch;
use crate::runtime::config::{ContainerId, EtcFiles, Namespace};
use crate::runtime::record::Record;
use crate::sys::netns;

/// Where the host says who answers names.
pub(crate) const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";

/// A sandbox that is ready for a container.
struct Ready {
    netns: Option<OwnedFd>,
    etc: EtcFiles,
    /// For the monitor's sidecar.
    sidecar: serde_json::Value,
    sockets: Vec<OwnedFd>,
}

impl LinuxHost<'_> {
    /// Starts a container that does not run.
    pub(super) async fn start(&self, id: &ContainerId) -> HostResult<()> {
        let record = self.engine.runtime.record(id)?;
        self.lease_again(&record)?;
        let annotations = Annotations::of(&record.config).unwrap_or_default();
        let ready = match self.prepare(&record, &annotations).await {
            Ok(ready) => ready,
            Err(error) => return Err(self.undo(id, error)),
        };
        let launch = Launch {
            netns: ready.netns,
            etc: ready.etc,
            sandbox: ready.sidecar,
            fds: ready.sockets,
        };
        let started = async {
            let starting = self.engine.runtime.spawn(id, launch)?;
            readable(&starting).await?;
            Ok(starting.finish()?)
        };
        match started.await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.undo(id, error)),
        }
    }

    /// Writes the lease of a container's image where it was lost with the machine's power.
    fn lease_again(&self, record: &Record) -> HostResult<()> {
        let images = &self.engine.images;
        let holder = record.id.as_str();
        if images.is_leased(holder)? {
            return Ok(());
        }
        // The layers of an image that is gone may still be there; starting tells.
        match images.find_id(&record.config.image.id)? {
            Some(image) => Ok(images.lease(holder, &image)?),
            None => Ok(()),
        }
    }

    /// Takes names and ports out of force again after a start that failed.
    fn undo(&self, id: &ContainerId, error: HostError) -> HostError {
        match self.engine.net.release(&[id.as_str()]) {
            Ok(()) => error,
            Err(more) => format!("{error}; and then: {}", all(&more)).into(),
        }
    }

    /// Makes the sandbox: namespace, links, addresses, ports, names.
    async fn prepare(&self, record: &Record, annotations: &Annotations) -> HostResult<Ready> {
        let config = &record.config;
        let host = read_host_resolver(Path::new(HOST_RESOLV_CONF))?;
        if config.namespaces.network != Namespace::Own {
            return self.share(record, annotations, &host);
        }
        if annotations.endpoints.is_empty() {
            // `network_mode: none`: an empty namespace, made by the init.
            let hosts = etc::hosts(&[], &config.hostname, None, &annotations.extra_hosts, None)?;
            let etc = EtcFiles {
                hosts,
                resolv_conf: String::new(),
            };
            return Ok(Ready {
                netns: None,
                etc,
                sidecar: serde_json::Value::Null,
                sockets: Vec::new(),
            });
        }
        let net = &self.engine.net;
        let sandbox = annotations.sandbox(record.id.as_str());
        let taken = self.reserved.borrow_mut().remove(&config.name);
        let reserved = if let Some(reserved) = taken {
            reserved
        } else {
            let service = config.labels.get(naming::SERVICE);
            self.engine.reserve_for(
                &config.name,
                service.map_or("", String::as_str),
                &annotations.ports,
            )?
        };
        let leases = self.lease(&sandbox)?;
        let netns = netns::create()?;
        let attachment = net.attach(netns.as_fd(), &sandbox, &leases).await?;
        let published: Vec<PublishedPort> = reserved.iter().map(|reserved| reserved.port).collect();
        net.publish(&sandbox, &attachment, &published)?;
        let sidecar = net.sidecar(
            &attachment,
            &published,
            &etc::servers(&annotations.resolver)?,
        );
        let hosts = etc::hosts(
            &addresses(&attachment),
            &config.hostname,
            config.domainname.as_deref(),
            &annotations.extra_hosts,
            gateway(&attachment),
        )?;
        Ok(Ready {
            netns: Some(netns),
            etc: EtcFiles {
                hosts,
                resolv_conf: etc::resolv_conf(&host, &annotations.resolver),
            },
            sidecar: serde_json::to_value(&sidecar)?,
            sockets: reserved
                .into_iter()
                .map(|Reserved { socket, .. }| socket)
                .collect(),
        })
    }

    /// Leases the addresses of a sandbox, and with them those of all that are about to start.
    fn lease(&self, sandbox: &SandboxConfig) -> HostResult<Leases> {
        let net = &self.engine.net;
        let created = self.unleased.take();
        if created.len() > 1 {
            // All or none. Where one of them cannot be had, each start asks for its own, and that one's fails.
            let _asked_again = net.allocate(&created);
        }
        let mut leases = net.allocate(std::slice::from_ref(sandbox))?;
        Ok(leases.pop().ok_or("no addresses were leased")?)
    }

    /// Prepares a container that uses the host's network, or another container's with its files.
    fn share(&self, record: &Record, annotations: &Annotations, host: &str) -> HostResult<Ready> {
        let etc = match &record.config.namespaces.network {
            Namespace::Container(owner) => {
                let mut etc = self.engine.runtime.record(owner)?.etc;
                etc.hosts
                    .extend(etc::hosts(&[], "", None, &annotations.extra_hosts, None)?);
                etc
            }
            Namespace::Host | Namespace::Own => {
                let own = [IpAddr::from([127, 0, 1, 1])];
                let name = &record.config.hostname;
                let mut hosts = etc::hosts(&own, name, None, &annotations.extra_hosts, None)?;
                // A host without the file knows no names by it.
                hosts.extend(etc::entries(&read_host_resolver(Path::new("/etc/hosts"))?));
                EtcFiles {
                    hosts,
                    resolv_conf: host.to_owned(),
                }
            }
        };
        Ok(Ready {
            netns: None,
            etc,
            sidecar: serde_json::Value::Null,
            sockets: Vec::new(),
        })
    }
}

/// Returns the container's own addresses.
fn addresses(attachment: &Attachment) -> Vec<IpAddr> {
    attachment
        .endpoints
        .iter()
        .flat_map(|endpoint| endpoint.addresses.iter().map(ipnetwork::IpNetwork::ip))
        .collect()
}

/// Returns the host as the container reaches it.
fn gateway(attachment: &Attachment) -> Option<IpAddr> {
    let open = attachment
        .endpoints
        .iter()
        .find(|endpoint| !endpoint.internal);
    open.or(attachment.endpoints.first())
        .and_then(|endpoint| endpoint.gateways.first().copied())
}

/// Reads the host's resolver configuration; a host without one has no servers to forward to.
pub(crate) fn read_host_resolver(path: &Path) -> HostResult<String> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

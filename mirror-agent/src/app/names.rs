//! Names of shadows, resolved again and again beside the control loop: a name server that does not answer must hold up
//! neither the agent's sign of life nor its end.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{Host, ShadowTarget};

/// How often the names of shadows are resolved again.
pub(super) const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// How long one resolution may take; after it the old addresses stay in use.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The addresses of every shadow, in order; an empty list for a name that could not be resolved.
pub(super) type Addrs = Vec<Vec<SocketAddr>>;

/// A task that resolves; it ends when this is dropped.
pub(super) struct Names {
    latest: watch::Receiver<Addrs>,
    task: JoinHandle<()>,
}

impl Names {
    /// Goes on resolving the names in `shadows`, whose addresses are `known`. Nothing is done if none has a name.
    pub(super) fn follow(shadows: &[ShadowTarget], known: Addrs) -> Self {
        let (sender, latest) = watch::channel(known);
        let shadows = shadows.to_vec();
        let task = tokio::spawn(async move {
            if shadows.iter().all(|shadow| matches!(shadow.host, Host::Ip(_))) {
                sender.closed().await;
                return;
            }
            loop {
                tokio::time::sleep(RESOLVE_EVERY).await;
                let mut found = resolve(&shadows).await;
                sender.send_if_modified(|known| {
                    // What cannot be resolved now stays where it was.
                    for (found, known) in found.iter_mut().zip(known.iter()) {
                        if found.is_empty() {
                            found.clone_from(known);
                        }
                    }
                    let changed = found != *known;
                    *known = found;
                    changed
                });
            }
        });
        Self { latest, task }
    }

    /// Waits until some name stands for other addresses, and gives those of all. May be given up at any time.
    pub(super) async fn changed(&mut self) -> Addrs {
        if self.latest.changed().await.is_err() {
            // The task is gone, which only a panic in it can do: the addresses known so far stay.
            std::future::pending::<()>().await;
        }
        self.latest.borrow_and_update().clone()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The addresses of every shadow now, all names side by side, within [`RESOLVE_TIMEOUT`].
pub(super) async fn resolve(shadows: &[ShadowTarget]) -> Addrs {
    let mut all = vec![Vec::new(); shadows.len()];
    let mut lookups = JoinSet::new();
    for (index, shadow) in shadows.iter().enumerate() {
        match &shadow.host {
            Host::Ip(ip) => all[index].push(SocketAddr::new(*ip, shadow.port)),
            Host::Name(name) => {
                let (name, port, url) = (name.clone(), shadow.port, shadow.url.clone());
                lookups.spawn(async move { (index, look_up(&name, port, &url).await) });
            }
        }
    }
    while let Some(found) = lookups.join_next().await {
        if let Ok((index, found)) = found {
            all[index] = found;
        }
    }
    all
}

async fn look_up(name: &str, port: u16, url: &str) -> Vec<SocketAddr> {
    match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name, port))).await {
        Ok(Ok(found)) => {
            let mut found: Vec<_> = found.collect();
            found.sort_unstable();
            found.dedup();
            found
        }
        Ok(Err(error)) => {
            tracing::warn!(shadow = %url, %error, "the name cannot be resolved");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(shadow = %url, "resolving the name takes too long");
            Vec::new()
        }
    }
}

//! Checks before the first byte that the registry takes what is to be pushed: in every repository that
//! is to be written. Some registries have repositories only where somebody made them, and all that
//! are missing are best known at once.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};
use http::Method;
use net::RepeatPolicy;

use super::push::RegistrySink;
use super::registry::RegistryScope;
use crate::{Error, Result};

/// Requests at the same time. They are short, and a registry far away takes a tenth of a second for
/// each.
const REQUESTS: usize = 16;

/// Whether a repository can be written.
enum PushAccess {
    Granted,
    /// With the registry's response.
    Refused(net::Error),
}

impl RegistrySink {
    /// Checks before any work that the registry is reachable and accepts pushes with the user's
    /// credential, in every repository that lacks something: opens an upload session there and
    /// cancels it. Asking for `/v2/` would not do, since registries answer there also to those who
    /// may only read.
    ///
    /// # Errors
    /// [`Error::PushRefused`] with all repositories that refuse.
    pub async fn check_access(&self) -> Result<()> {
        let Some(first) = self.targets.values().map(types::Reference::repository).min() else {
            return Ok(());
        };
        // One request alone: a wrong credential that is tried many times at once locks accounts.
        let mut refused = Vec::new();
        if let PushAccess::Refused(cause) = self.check_repository(first).await? {
            refused.push((first.to_owned(), cause));
        }
        let mut repositories = self.find_repositories_to_write().await?;
        repositories.remove(first);
        let mut checks = stream::iter(&repositories)
            .map(|repository| async move { (repository, self.check_repository(repository).await) })
            .buffer_unordered(REQUESTS);
        while let Some((repository, access)) = checks.next().await {
            match access {
                Ok(PushAccess::Granted) => {}
                Ok(PushAccess::Refused(cause)) => refused.push((repository.clone(), cause)),
                // A token for this one repository is refused.
                Err(Error::Net { cause: cause @ net::Error::Unauthorized { .. }, .. }) => {
                    refused.push((repository.clone(), cause));
                }
                Err(error) => return Err(error),
            }
        }
        refused.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (repositories, causes): (Vec<String>, Vec<net::Error>) = refused.into_iter().unzip();
        let Some(cause) = causes.into_iter().next() else { return Ok(()) };
        Err(Error::PushRefused { registry: self.registry.host().to_owned(), repositories, cause })
    }

    /// The repositories of roots that the registry does not have under their names. What was found
    /// is kept for the push.
    async fn find_repositories_to_write(&self) -> Result<BTreeSet<String>> {
        let mut questions = stream::iter(&self.targets)
            .map(|(root, target)| async move {
                let found = match Self::name_of(target) {
                    Ok(name) => self.find_pushed_digest(&name).await,
                    Err(error) => Err(error),
                };
                (root, target, found)
            })
            .buffer_unordered(REQUESTS);
        let mut repositories = BTreeSet::new();
        while let Some((root, target, found)) = questions.next().await {
            let found = found?;
            if found.is_none() {
                repositories.insert(target.repository().to_owned());
            }
            self.lock_state().found.insert(root.clone(), found);
        }
        Ok(repositories)
    }

    async fn check_repository(&self, repository: &str) -> Result<PushAccess> {
        let what = format!("the registry {}", self.registry.host());
        let path = "blobs/uploads/";
        let request =
            self.registry.build_request(Method::POST, repository, path, RegistryScope::Push)?;
        let client = self.registry.client();
        let response =
            client.send(&request, RepeatPolicy::Safe).await.map_err(Error::from_net(&what))?;
        let response = match response.require_success().await {
            Ok(response) => response,
            // A web server, a read-only registry, or a project or repository that does not exist.
            Err(cause @ net::Error::Status { status: 400..=499 | 501, .. }) => {
                return Ok(PushAccess::Refused(cause));
            }
            Err(cause) => return Err(Error::Net { what, cause }),
        };
        // The session was opened only to see that it is granted.
        if let Some(location) = response.header("location") {
            let mut cancel = request;
            cancel.follow_location(location).map_err(Error::from_net(&what))?;
            cancel.set_method(Method::DELETE);
            // A registry that cannot cancel drops the session by itself after some time.
            let _ = client.send_without_retry(&cancel).await;
        }
        Ok(PushAccess::Granted)
    }
}

//! Objects as they come and go: those that live for a second only are seen, too.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, DynamicObject};
use tokio::time::sleep;

use crate::{Cluster, Error, Object, Result, Scope};

/// How long to wait until an API server that is away is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Objects that come in one answer.
const PAGE: u32 = 500;

/// What happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<K> {
    /// It is there, and as it is now.
    Now(K),
    /// It is gone; this is how it was last.
    Gone(K),
    /// All that are there follow as [`Change::Now`]: what went away before was not seen.
    Anew,
}

impl Cluster {
    /// Tells what is there and what changes, without end. An API server that goes away for a while is
    /// waited for; only the first list can fail.
    pub async fn watch<K: Object>(
        &self,
        scope: Scope<'_>,
        selector: &str,
        mut visit: impl FnMut(Change<K>),
    ) -> Result<Infallible> {
        let resource = ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = self.api(&resource, scope);
        let doing = || format!("watching {}s", K::kind(&()));
        let parse = |object: DynamicObject| object.try_parse::<K>().ok();
        let mut is_first = true;
        loop {
            match list(&api, selector).await {
                Err(error) if is_first => return Err(Error::of(doing(), error)),
                Err(_) => {}
                Ok((objects, mut version)) => {
                    is_first = false;
                    visit(Change::Anew);
                    objects.into_iter().filter_map(parse).for_each(|k| visit(Change::Now(k)));
                    let params = WatchParams::default().labels(selector);
                    // A watch ends after some minutes; it goes on from the version that it had.
                    while let Ok(events) = api.watch(&params, &version).await {
                        let mut events = std::pin::pin!(events);
                        let mut is_lost = false;
                        while let Some(event) = events.next().await {
                            let object = match event {
                                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                                    version =
                                        object.metadata.resource_version.clone().unwrap_or(version);
                                    parse(object).map(Change::Now)
                                }
                                Ok(WatchEvent::Deleted(object)) => {
                                    version =
                                        object.metadata.resource_version.clone().unwrap_or(version);
                                    parse(object).map(Change::Gone)
                                }
                                Ok(WatchEvent::Bookmark(mark)) => {
                                    version = mark.metadata.resource_version;
                                    None
                                }
                                // The version is too old, or the connection broke.
                                Ok(WatchEvent::Error(_)) | Err(_) => {
                                    is_lost = true;
                                    break;
                                }
                            };
                            object.into_iter().for_each(&mut visit);
                        }
                        if is_lost {
                            break;
                        }
                    }
                }
            }
            sleep(PATIENCE).await;
        }
    }
}

async fn list(
    api: &Api<DynamicObject>,
    selector: &str,
) -> Result<(Vec<DynamicObject>, String), kube::Error> {
    let mut params = ListParams::default().labels(selector).limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok((all, page.metadata.resource_version.unwrap_or_default())),
        }
    }
}

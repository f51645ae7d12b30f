//! Watching objects: every change is reported, also of objects that exist for only a second, which
//! repeated lists would miss.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, DynamicObject};
use tokio::time::sleep;

use crate::{Cluster, Error, ObjectScope, Result, TypedObject};

/// The pause before an API server that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Objects per page of a list.
const PAGE: u32 = 500;

/// What happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchedChange<K> {
    /// The object exists; this is its current state.
    Present(K),
    /// The object was deleted; this is its last state.
    Gone(K),
    /// The watch starts, or starts again: all existing objects follow as [`WatchedChange::Present`]. Deletions
    /// since the last event were not seen.
    Restarted,
}

impl Cluster {
    /// Reports all existing objects and then every change, without end. When the API server is away
    /// for a while, it is waited for.
    ///
    /// # Errors
    /// Only the first list can fail.
    pub async fn watch_objects<K: TypedObject>(
        &self,
        scope: ObjectScope<'_>,
        selector: &str,
        mut visit: impl FnMut(WatchedChange<K>),
    ) -> Result<Infallible> {
        let resource = ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = self.dynamic_api(&resource, scope);
        let doing = || format!("watching {}s", K::kind(&()));
        let parse = |object: DynamicObject| object.try_parse::<K>().ok();
        let mut is_first = true;
        loop {
            match list_all_pages(&api, selector).await {
                Err(error) if is_first => return Err(Error::from_kube(doing(), error)),
                Err(_) => {}
                Ok((objects, mut version)) => {
                    is_first = false;
                    visit(WatchedChange::Restarted);
                    objects
                        .into_iter()
                        .filter_map(parse)
                        .for_each(|k| visit(WatchedChange::Present(k)));
                    let params = WatchParams::default().labels(selector);
                    // The API server ends every watch after some minutes; the next one continues
                    // from the last version.
                    while let Ok(events) = api.watch(&params, &version).await {
                        let mut events = std::pin::pin!(events);
                        let mut is_lost = false;
                        while let Some(event) = events.next().await {
                            let object = match event {
                                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                                    version =
                                        object.metadata.resource_version.clone().unwrap_or(version);
                                    parse(object).map(WatchedChange::Present)
                                }
                                Ok(WatchEvent::Deleted(object)) => {
                                    version =
                                        object.metadata.resource_version.clone().unwrap_or(version);
                                    parse(object).map(WatchedChange::Gone)
                                }
                                Ok(WatchEvent::Bookmark(mark)) => {
                                    version = mark.metadata.resource_version;
                                    None
                                }
                                // The version is too old for the API server (410 Gone), or the
                                // connection was lost: list everything again.
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

/// Lists all objects, page by page, and the version to watch from.
async fn list_all_pages(
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

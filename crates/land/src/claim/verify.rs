//! Verifies the models of a claim in a pod of its own, for `gantry check`.

use std::sync::Arc;
use std::time::Duration;

use cluster::Cluster;
use store::progress::SilentProgress;
use types::destination::ClaimFolder;

use super::error::{Error, Result};
use super::order::{SeederEvent, SeederOrder, SeederTask};
use super::pod::{SeederImage, VolumeUse};
use super::seeder::Seeder;
use super::volume::ClaimVolume;
use crate::models::ModelVerifyReport;

/// The default for how long a seeder pod may take to start. A node may have to pull the image and
/// attach the volume first, which takes minutes on some storage.
pub const POD_TIMEOUT: Duration = Duration::from_mins(5);

/// Reads and hashes every model file of a claim.
pub async fn verify_claim(
    cluster: Cluster,
    image: SeederImage,
    claim: &ClaimFolder,
) -> Result<ModelVerifyReport> {
    // Nothing is written, so no free space is needed and no claim is created.
    let volume = ClaimVolume::inspect_claim(&cluster, claim, 0, None).await?;
    let order =
        SeederOrder { folder: claim.folder.clone(), node_folder: None, task: SeederTask::Verify };
    let seeder = Seeder::new(cluster, image, POD_TIMEOUT, Arc::new(SilentProgress));
    let event = seeder.run_order(&volume, VolumeUse::Read, &order, None).await;
    seeder.remove_started().await?;
    match event? {
        SeederEvent::Checked { checked } => Ok(checked),
        _ => Err(Error::UnexpectedEvent),
    }
}

//! `palisade demo`

use super::{Failure, databases::Databases};
use crate::demo::{self, Amounts};

/// What `palisade demo` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    amounts: Amounts,
    #[command(flatten)]
    databases: Databases,
}

/// Fills in the tenants that are not there yet.
pub async fn run(options: Options) -> Result<(), Failure> {
    let amounts = options.amounts;
    let made = options
        .databases
        .with(async |db, admin| {
            let made = demo::fill(db, admin, amounts, true).await;
            made.map_err(|error| Failure::failed(error.detail()))
        })
        .await?;
    println!(
        "{made} tenants made, {} were there already",
        amounts.tenants - made
    );
    Ok(())
}

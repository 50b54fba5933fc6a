//! `palisade demo`

use super::{Failure, databases::Databases};
use crate::demo::{self, Amounts};

/// The options of `palisade demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    amounts: Amounts,
    #[command(flatten)]
    databases: Databases,
}

/// Creates the demo tenants that do not exist yet.
pub async fn run(options: Options) -> Result<(), Failure> {
    let amounts = options.amounts;
    let created = options
        .databases
        .with(async |db, admin| Ok(demo::create_tenants(db, admin, amounts, true).await?))
        .await?;
    println!(
        "tenants created: {created}, already present: {}",
        amounts.tenants - created
    );
    Ok(())
}

//! Currencies: the same for every tenant.

use async_graphql::{Context, SimpleObject};

use crate::{
    db::shared::{self, SharedRow},
    error::Result,
    graphql::{
        context::ContextExt as _, json::plain_fields, object::Objects, scalars::CurrencyCode,
    },
};

/// An ISO 4217 currency.
#[derive(Clone, Debug, SimpleObject, sqlx::FromRow)]
pub struct Currency {
    /// The three-letter ISO 4217 code.
    pub code: CurrencyCode,
    /// The English name of the currency.
    pub name: String,
    /// The number of decimal places of an amount in this currency.
    pub minor_digits: i32,
}

plain_fields!(Currency {
    code,
    name,
    minor_digits
});

impl SharedRow for Currency {
    const TABLE: &'static str = "currencies";
    const COLUMNS: &'static [&'static str] = &["code", "name", "minor_digits"];
}

/// The root queries of this slice.
#[derive(Debug, Default)]
pub struct CurrencyQueries;

#[async_graphql::Object]
impl CurrencyQueries {
    /// The supported currencies, sorted by code.
    async fn currencies(&self, ctx: &Context<'_>) -> Result<Objects<Currency>> {
        Ok(shared::all::<Currency>(ctx.tx())
            .await?
            .into_iter()
            .collect())
    }
}

//! Products: what a tenant sells.

mod mutations;

use async_graphql::{Context, Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    comments::Comment,
    db::entity::Column,
    error::Result,
    graphql::{
        entity::entity,
        enums::StoredEnum,
        filter::{DateTimeFilter, EnumFilter, IdFilter, StringFilter, UpperCase, listed},
        object::Object,
        relations::{relations, roots},
        scalars::{CurrencyCode, Money},
    },
    ids::ProductId,
    invoices::InvoiceLineItem,
};

/// The status of a product. An archived product can still be used, changed and deleted; clients filter lists by status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProductStatus {
    /// The product is in use.
    Active,
    /// The product is archived: kept for reference.
    Archived,
}

impl StoredEnum for ProductStatus {}

/// A product that the tenant sells.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Product {
    /// The ID of the product.
    pub id: ProductId,
    /// The ASIN: the article number, unique within the tenant. Ten upper-case letters and digits.
    pub asin: Column<String>,
    /// The title; 1 to 300 characters.
    pub title: Column<Option<String>>,
    #[graphql(skip)]
    price_minor: Column<Option<i64>>,
    #[graphql(skip)]
    currency: Column<Option<CurrencyCode>>,
    /// The status: active or archived.
    pub status: Column<ProductStatus>,
    /// The version of the product: starts at 1 and increases with each change.
    pub version: Column<i32>,
    /// The time at which the product was created.
    pub created_at: Column<DateTime<Utc>>,
    /// The time at which the product was last changed.
    pub updated_at: Column<DateTime<Utc>>,
}

entity!(Product {
    id: ProductId,
    shown { asin, title, status, version, created_at, updated_at }
    hidden { price_minor, currency }
});

listed! {
    Product {
        filter ProductFilter {
            /// Filters by ID.
            id: IdFilter<ProductId>,
            /// Filters by ASIN.
            asin: StringFilter<UpperCase>,
            /// Filters by title.
            title: StringFilter,
            /// Filters by status.
            status: EnumFilter<ProductStatus>,
            /// Filters by the time of creation.
            created_at: DateTimeFilter,
            /// Filters by the time of the last change.
            updated_at: DateTimeFilter,
        }
        order ProductOrderField {
            /// Sort by the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// Sort by the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
            /// Sort by ASIN.
            Asin => asin: String,
            /// Sort by title. In ascending order, products without a title come last.
            Title => title: Option<String>,
        }
        default CreatedAt Desc
    }
}

relations! {
    Product {
        many {
            /// The invoice lines that bill the product, lowest position first by default.
            line_items: InvoiceLineItem = product_id,
            /// The comments on the product, newest first by default.
            comments: Comment = product_id,
            /// The changes of the product, without those of its comments, newest first by default. Only owners and
            /// admins may read them; for other roles the field is null with the error FORBIDDEN.
            audit_logs: AuditLog = subject_id,
        }
        computed {
            /// The price per unit; null if the product has no price.
            price: Option<Object<Money>> = compute_price(price_minor, currency),
        }
    }
}

impl Product {
    fn compute_price(&self, _: &Context<'_>) -> Result<Option<Object<Money>>> {
        let (minor, currency) = (self.price_minor.get()?, self.currency.get()?);
        let price = minor.zip(currency.as_ref());
        Ok(price.map(|(minor, currency)| Money::from_minor(minor, currency).into()))
    }
}

roots! {
    ProductQueries: Product {
        /// The product with this ID; null if the tenant has no such product.
        product(ProductId)
        /// The products of the tenant, newest first by default.
        products
    }
}

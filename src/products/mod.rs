//! Products: what a tenant sells.

mod mutations;

use async_graphql::{Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    comments::Comment,
    db::entity::entity,
    graphql::{
        enums::StoredEnum,
        filter::{DateTimeFilter, EnumFilter, IdFilter, StringFilter, listed},
        object::Object,
        relations::{relations, roots},
        scalars::{CurrencyCode, Money},
    },
    ids::ProductId,
    invoices::InvoiceLineItem,
};

/// Whether a product is on sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProductStatus {
    /// On sale.
    Active,
    /// Kept for its history.
    Archived,
}

impl StoredEnum for ProductStatus {}

/// Something that the tenant sells.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Product {
    /// The id.
    pub id: ProductId,
    /// The article number, unique in the tenant: ten capital letters and digits.
    pub asin: String,
    /// The name for people; 1 to 300 characters.
    pub title: Option<String>,
    #[graphql(skip)]
    price_minor: Option<i64>,
    #[graphql(skip)]
    currency: Option<CurrencyCode>,
    /// Whether it is on sale.
    pub status: ProductStatus,
    /// Counts the changes of this row, from 1.
    pub version: i32,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

entity!(Product {
    id: ProductId,
    asin,
    title,
    price_minor,
    currency,
    status,
    version,
    created_at,
    updated_at,
});

listed! {
    Product {
        filter ProductFilter {
            /// By id.
            id: IdFilter<ProductId>,
            /// By article number.
            asin: StringFilter,
            /// By name.
            title: StringFilter,
            /// By status.
            status: EnumFilter<ProductStatus>,
            /// By the time of creation.
            created_at: DateTimeFilter,
            /// By the time of the last change.
            updated_at: DateTimeFilter,
        }
        order ProductOrderField {
            /// By the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// By the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
            /// By article number.
            Asin => asin: String,
            /// By name; the nameless count as greatest.
            Title => title: Option<String>,
        }
        default CreatedAt Desc
    }
}

relations! {
    Product {
        many {
            /// Lines of invoices that bill the product, newest first unless ordered otherwise.
            line_items: InvoiceLineItem = product_id,
            /// Comments on the product, newest first unless ordered otherwise.
            comments: Comment = product_id,
            /// What happened to the product, newest first unless ordered otherwise. Empty for all but owners and admins.
            audit_logs: AuditLog = subject_id,
        }
        fields {
            /// The price of one; null if none is set.
            async fn price(&self) -> Option<Object<Money>> {
                let (minor, currency) = (self.price_minor?, self.currency.as_ref()?);
                Some(Money::from_minor(minor, currency).into())
            }
        }
    }
}

roots! {
    ProductQueries: Product {
        /// One product; null if there is none with this id.
        product(ProductId)
        /// The products of the tenant, newest first unless ordered otherwise.
        products
    }
}

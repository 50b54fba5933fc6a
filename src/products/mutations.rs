//! The mutations of products.

use std::collections::HashSet;

use async_graphql::{ComplexObject, Context, InputObject, MaybeUndefined, SimpleObject};
use uuid::Uuid;

use super::Product;
use crate::{
    comments::Comment,
    db::{
        TenantTx,
        archive::{Archivable, archive, unarchive},
        bulk::InsertMany,
        write::{
            ConstraintRule, Insert, Update, Writable, WriteError, WriteResult, delete_one,
            delete_where,
        },
    },
    error::Result,
    graphql::{
        bulk::{self, BulkOptions, BulkPayload, BulkResult, BulkRow, BulkRowResult},
        checks::Checks,
        context::ContextExt as _,
        json::PlainFields,
        mutation::{Write as _, payload, targets},
        object::{Object, Objects},
        relations::RootMutations,
        scalars::{MoneyInput, UNSUPPORTED_CURRENCY},
    },
    ids::{EntityId as _, ProductId},
    user_error::{UserError, UserErrorCode},
};

/// The maximum length of a title in characters.
const MAX_TITLE_LENGTH: usize = 300;
const INVALID_ASIN: &str = "must be ten upper-case letters and digits";
const ASIN_TAKEN: &str = "is already the ASIN of another product";

impl Writable for Product {
    const RULES: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "products_asin_key",
            UserErrorCode::AlreadyExists,
            "asin",
            ASIN_TAKEN,
        ),
        ConstraintRule::new(
            "products_asin_form",
            UserErrorCode::Invalid,
            "asin",
            INVALID_ASIN,
        ),
        ConstraintRule::new(
            "products_title_length",
            UserErrorCode::Invalid,
            "title",
            "must have 1 to 300 characters",
        ),
        ConstraintRule::new(
            "products_price_positive",
            UserErrorCode::TooSmall,
            "price.amount",
            "must not be negative",
        ),
        ConstraintRule::new(
            "products_currency_fkey",
            UserErrorCode::Invalid,
            "price.currencyCode",
            UNSUPPORTED_CURRENCY,
        ),
    ];
    const REFERRERS: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "invoice_line_items_product_fkey",
            UserErrorCode::InvalidState,
            "id",
            "is on invoices: archive the product instead",
        ),
        ConstraintRule::new(
            "comments_product_fkey",
            UserErrorCode::InvalidState,
            "id",
            "has comments of other users, which you may not delete: archive the product instead",
        ),
    ];
}

impl Archivable for Product {}

/// A product to create: the input of the `createProduct` mutation, and a row of `importProducts`.
#[derive(Debug, InputObject)]
pub struct CreateProductInput {
    /// The ASIN: the article number, unique within the tenant. Ten upper-case letters and digits.
    pub asin: String,
    /// The title; 1 to 300 characters.
    pub title: Option<String>,
    /// The price per unit. Must not be negative.
    pub price: Option<MoneyInput>,
}

/// The input of the `updateProduct` mutation. A field that is left out keeps its value; null clears it.
#[derive(Debug, InputObject)]
pub struct UpdateProductInput {
    /// The ID of the product.
    pub id: ProductId,
    /// The version that the client last read. If the product has changed since, nothing is written and the error
    /// CONFLICT is returned.
    pub if_version: Option<i32>,
    /// The ASIN: the article number. Cannot be cleared.
    pub asin: MaybeUndefined<String>,
    /// The title; 1 to 300 characters.
    pub title: MaybeUndefined<String>,
    /// The price per unit. Must not be negative.
    pub price: MaybeUndefined<MoneyInput>,
}

targets! {
    /// The input of the `archiveProduct` mutation.
    ArchiveProductInput(ProductId)
    /// The input of the `unarchiveProduct` mutation.
    UnarchiveProductInput(ProductId)
    /// The input of the `deleteProduct` mutation.
    DeleteProductInput(ProductId)
}

payload! {
    /// The payload of the `createProduct` mutation.
    CreateProductPayload { product: Product }
    /// The payload of the `updateProduct` mutation.
    UpdateProductPayload { product: Product }
    /// The payload of the `archiveProduct` mutation.
    ArchiveProductPayload { product: Product }
    /// The payload of the `unarchiveProduct` mutation.
    UnarchiveProductPayload { product: Product }
    /// The payload of the `deleteProduct` mutation.
    DeleteProductPayload { product: Product }
}

/// The mutations of this slice.
#[derive(Debug, Default)]
pub struct ProductMutations;

impl RootMutations for Product {
    type Mutations = ProductMutations;
}

#[async_graphql::Object]
impl ProductMutations {
    /// Creates a product. Every role except viewer may do so.
    async fn create_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product to create.")] input: CreateProductInput,
    ) -> Result<Object<CreateProductPayload>> {
        ctx.write(create(ctx.tx(), input)).await
    }

    /// Updates a product. Every role except viewer may do so.
    async fn update_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product and the fields to change.")] input: UpdateProductInput,
    ) -> Result<Object<UpdateProductPayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Archives a product: sets its status to `ARCHIVED`. Every role except viewer may do so.
    async fn archive_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product to archive.")] input: ArchiveProductInput,
    ) -> Result<Object<ArchiveProductPayload>> {
        ctx.write(archive::<Product>(ctx.tx(), input.id, input.if_version))
            .await
    }

    /// Restores an archived product: sets its status to `ACTIVE`. Every role except viewer may do so.
    async fn unarchive_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product to restore.")] input: UnarchiveProductInput,
    ) -> Result<Object<UnarchiveProductPayload>> {
        ctx.write(unarchive::<Product>(ctx.tx(), input.id, input.if_version))
            .await
    }

    /// Deletes a product and its comments. Every role except viewer may do so; only owners and admins may delete a
    /// product that has comments of other users. A product that is on an invoice cannot be deleted.
    async fn delete_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product to delete.")] input: DeleteProductInput,
    ) -> Result<Object<DeleteProductPayload>> {
        ctx.write(delete(ctx.tx(), input)).await
    }

    /// Creates up to 1,000 products. Every role except viewer may do so.
    async fn import_products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The products to create.")] input: ImportProductsInput,
    ) -> Result<Object<ImportProductsPayload>> {
        let ImportProductsInput { rows, options } = input;
        let work = import_each(ctx.tx(), &rows);
        ctx.write(bulk::run::<ImportProductsResult>(
            ctx, &options, &rows, work,
        ))
        .await
    }
}

async fn create(tx: &TenantTx, input: CreateProductInput) -> WriteResult<Product> {
    let mut checks = Checks::new();
    let price = check(&mut checks, &input);
    checks.finish()?;
    Insert::<Product>::new(ProductId::generate())
        .set("asin", input.asin)
        .set("title", input.title)
        .set("price_minor", price)
        .set(
            "currency",
            input.price.map(|price| price.currency_code.to_string()),
        )
        .run(tx)
        .await
}

/// Checks a new product. Returns its price in minor units.
fn check(checks: &mut Checks, input: &CreateProductInput) -> Option<i64> {
    check_asin(checks, &input.asin);
    if let Some(title) = &input.title {
        checks.text("title", title, MAX_TITLE_LENGTH);
    }
    check_price(checks, input.price.as_ref()?)
}

fn check_asin(checks: &mut Checks, asin: &str) {
    let is_part = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let is_asin = asin.len() == 10 && asin.bytes().all(is_part);
    checks.require(is_asin, UserErrorCode::Invalid, "asin", INVALID_ASIN);
}

fn check_price(checks: &mut Checks, price: &MoneyInput) -> Option<i64> {
    let minor = checks.money("price", price);
    checks.require(
        minor.is_none_or(|minor| minor >= 0),
        UserErrorCode::TooSmall,
        "price.amount",
        "must not be negative",
    );
    minor
}

async fn update(tx: &TenantTx, input: UpdateProductInput) -> WriteResult<Product> {
    let mut checks = Checks::new();
    if let Some(asin) = checks.not_cleared("asin", &input.asin) {
        check_asin(&mut checks, asin);
    }
    if let Some(title) = input.title.value() {
        checks.text("title", title, MAX_TITLE_LENGTH);
    }
    let price = input
        .price
        .value()
        .and_then(|price| check_price(&mut checks, price));
    checks.finish()?;
    let mut update = Update::<Product>::new(input.id, input.if_version)
        .set_if_present("asin", input.asin)
        .set_or_clear("title", input.title);
    if !input.price.is_undefined() {
        let currency = input
            .price
            .value()
            .map(|price| price.currency_code.to_string());
        update = update.set("price_minor", price).set("currency", currency);
    }
    update.run(tx).await
}

async fn delete(tx: &TenantTx, input: DeleteProductInput) -> WriteResult<Product> {
    delete_where::<Comment>(tx, "product_id", vec![input.id.uuid()]).await?;
    delete_one(tx, input.id, input.if_version).await
}

/// The input of the `importProducts` mutation.
#[derive(Debug, InputObject)]
pub struct ImportProductsInput {
    /// The products to create; at most 1,000.
    pub rows: Vec<CreateProductInput>,
    #[graphql(flatten)]
    options: BulkOptions,
}

/// The payload of the `importProducts` mutation.
pub type ImportProductsPayload = BulkPayload<ImportProductsResult>;

/// The result of `importProducts` for one row.
#[derive(Debug, SimpleObject)]
#[graphql(complex)]
pub struct ImportProductsResult {
    /// The index in the list of rows, starting at 0.
    pub index: i32,
    #[graphql(skip)]
    product_id: Option<ProductId>,
    /// The errors that prevented the creation of this product. Empty if it was created.
    pub user_errors: Objects<UserError>,
}

#[ComplexObject]
impl ImportProductsResult {
    /// The created product. Null if the product was not created, or if the product has been deleted since.
    async fn product(&self, ctx: &Context<'_>) -> Result<Option<Object<Product>>> {
        ctx.load(self.product_id).await
    }
}

impl PlainFields for ImportProductsResult {}

impl BulkRowResult for ImportProductsResult {
    const MUTATION: &'static str = "importProducts";
    const LIST: &'static str = "rows";
    const MAX_ROWS: usize = 1_000;

    fn new(index: i32, row: BulkRow) -> Self {
        Self {
            index,
            product_id: row.id.map(ProductId::from),
            user_errors: row.user_errors.into_iter().collect(),
        }
    }
}

/// Inserts the products that can be inserted, in one statement. The statement skips each row whose ASIN is
/// taken and does not return the ID of that row.
async fn import_each(tx: &TenantTx, inputs: &[CreateProductInput]) -> WriteResult<BulkResult> {
    let mut rows = Vec::with_capacity(inputs.len());
    let mut seen = HashSet::new();
    let mut products = Vec::new();
    for input in inputs {
        let mut checks = Checks::new();
        let price = check(&mut checks, input);
        checks.require(
            seen.insert(&input.asin),
            UserErrorCode::AlreadyExists,
            "asin",
            "is also in an earlier row",
        );
        let failures = checks.into_failures();
        if failures.is_empty() {
            let id = ProductId::generate().uuid();
            products.push(NewProduct {
                id,
                price_minor: price,
                input,
            });
            rows.push(BulkRow::written(id));
        } else {
            rows.push(BulkRow::rejected(failures));
        }
    }
    let written = insert_all(tx, &products)
        .await
        .map_err(WriteError::without_value)?;
    for row in &mut rows {
        if row.id.is_some_and(|id| !written.contains(&id)) {
            *row = BulkRow::error(UserErrorCode::AlreadyExists, "asin", ASIN_TAKEN);
        }
    }
    Ok(BulkResult(rows))
}

/// Returns the IDs of the inserted products.
async fn insert_all(tx: &TenantTx, products: &[NewProduct<'_>]) -> WriteResult<HashSet<Uuid>> {
    let currency = |product: &NewProduct<'_>| {
        let price = product.input.price.as_ref();
        price.map(|price| price.currency_code.to_string())
    };
    InsertMany::<Product, _>::new(products)
        .column("id", |product| product.id)
        .column("asin", |product| product.input.asin.clone())
        .column("title", |product| product.input.title.clone())
        .column("price_minor", |product| product.price_minor)
        .column("currency", currency)
        .skip_existing("products_asin_key")
        .run(tx)
        .await
}

/// A product whose input passed the checks.
struct NewProduct<'i> {
    id: Uuid,
    price_minor: Option<i64>,
    input: &'i CreateProductInput,
}

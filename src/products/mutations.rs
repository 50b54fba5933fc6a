//! What changes products.

use std::collections::HashSet;

use async_graphql::{ComplexObject, Context, InputObject, MaybeUndefined, SimpleObject};
use sqlx::Row as _;
use uuid::Uuid;

use super::{Product, ProductStatus};
use crate::{
    comments::Comment,
    db::{
        TenantTx,
        bulk::Columns,
        write::{Insert, Update, Writable, Written, delete_one, delete_where, refusal},
    },
    error::Result,
    graphql::{
        batch::{self, Batch, Row, Terms},
        context::ContextExt as _,
        enums::StoredEnum as _,
        mutation::{Outcome, Write as _, payload, targets},
        object::{Object, Objects},
        relations::RootMutations,
        scalars::MoneyInput,
    },
    ids::{EntityId as _, ProductId},
    user_error::{Checks, Refusal, Rule, UserError, UserErrorCode},
};

/// Most characters of a title.
const TITLE: usize = 300;
/// Most products of one import.
const MAX_IMPORTED: usize = 1_000;
const ASIN_FORM: &str = "is not ten capital letters and digits";
const ASIN_TAKEN: &str = "is the number of another product";

impl Writable for Product {
    const RULES: &'static [Rule] = &[
        Rule::new(
            "products_asin_key",
            UserErrorCode::AlreadyExists,
            "asin",
            ASIN_TAKEN,
        ),
        Rule::new(
            "products_asin_form",
            UserErrorCode::Invalid,
            "asin",
            ASIN_FORM,
        ),
        Rule::new(
            "products_title_length",
            UserErrorCode::Invalid,
            "title",
            "has 1 to 300 characters",
        ),
        Rule::new(
            "products_price_positive",
            UserErrorCode::TooSmall,
            "price.amount",
            "is less than nothing",
        ),
        Rule::new(
            "products_currency_fkey",
            UserErrorCode::Invalid,
            "price.currencyCode",
            "is no currency of this API",
        ),
    ];
    const REFERRERS: &'static [Rule] = &[
        Rule::new(
            "invoice_line_items_product_fkey",
            UserErrorCode::InvalidState,
            "id",
            "stands on invoices: archive it instead",
        ),
        Rule::new(
            "comments_product_fkey",
            UserErrorCode::InvalidState,
            "id",
            "has comments of others, which you may not delete: archive it instead",
        ),
    ];
}

/// What a new product is made of.
#[derive(Debug, InputObject)]
pub struct CreateProductInput {
    /// The article number, unique in the tenant: ten capital letters and digits.
    pub asin: String,
    /// The name for people; 1 to 300 characters.
    pub title: Option<String>,
    /// The price of one.
    pub price: Option<MoneyInput>,
}

/// What is to change about a product. A field that is left out stays as it is, and null clears it.
#[derive(Debug, InputObject)]
pub struct UpdateProductInput {
    /// Its id.
    pub id: ProductId,
    /// Only if it still has this version; otherwise CONFLICT.
    pub if_version: Option<i32>,
    /// The article number. Cannot be cleared.
    pub asin: MaybeUndefined<String>,
    /// The name for people; 1 to 300 characters.
    pub title: MaybeUndefined<String>,
    /// The price of one.
    pub price: MaybeUndefined<MoneyInput>,
}

targets! {
    /// The product to archive.
    ArchiveProductInput(ProductId)
    /// The product to take out of the archive.
    UnarchiveProductInput(ProductId)
    /// The product to delete.
    DeleteProductInput(ProductId)
}

payload! {
    /// What came of `createProduct`.
    CreateProductPayload { product: Product }
    /// What came of `updateProduct`.
    UpdateProductPayload { product: Product }
    /// What came of `archiveProduct`.
    ArchiveProductPayload { product: Product }
    /// What came of `unarchiveProduct`.
    UnarchiveProductPayload { product: Product }
    /// What came of `deleteProduct`: the product as it was.
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
    /// Makes a product. For all but viewers.
    async fn create_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product.")] input: CreateProductInput,
    ) -> Result<Object<CreateProductPayload>> {
        ctx.write(create(ctx.tx(), input)).await
    }

    /// Changes a product. For all but viewers.
    async fn update_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which product, and what is to change.")] input: UpdateProductInput,
    ) -> Result<Object<UpdateProductPayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Puts a product into the archive. For all but viewers.
    async fn archive_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which product.")] input: ArchiveProductInput,
    ) -> Result<Object<ArchiveProductPayload>> {
        let archive = Update::<Product>::new(input.id, input.if_version)
            .set("status", ProductStatus::Archived.as_str())
            .unless("status", "ARCHIVED", "is in the archive already");
        ctx.write(archive.run(ctx.tx())).await
    }

    /// Takes a product out of the archive. For all but viewers.
    async fn unarchive_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which product.")] input: UnarchiveProductInput,
    ) -> Result<Object<UnarchiveProductPayload>> {
        let unarchive = Update::<Product>::new(input.id, input.if_version)
            .set("status", ProductStatus::Active.as_str())
            .only_if("status", "ARCHIVED", "is not in the archive");
        ctx.write(unarchive.run(ctx.tx())).await
    }

    /// Deletes a product and its comments. For all but viewers; only owners and admins delete one with
    /// comments of others, and nobody one that stands on an invoice.
    async fn delete_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which product.")] input: DeleteProductInput,
    ) -> Result<Object<DeleteProductPayload>> {
        ctx.write(delete(ctx.tx(), input)).await
    }

    /// Makes up to 1,000 products. For all but viewers.
    async fn import_products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The products.")] input: ImportProductsInput,
    ) -> Result<Object<ImportProductsPayload>> {
        ctx.write(import(ctx, input)).await
    }
}

async fn create(tx: &TenantTx, input: CreateProductInput) -> Written<Product> {
    let mut checks = Checks::new();
    let price = check(&mut checks, &input);
    checks.done()?;
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

/// Checks a new product; answers its price in minor units.
fn check(checks: &mut Checks, input: &CreateProductInput) -> Option<i64> {
    check_asin(checks, &input.asin);
    if let Some(title) = &input.title {
        checks.text("title", title, TITLE);
    }
    check_price(checks, input.price.as_ref()?)
}

fn check_asin(checks: &mut Checks, asin: &str) {
    let is_part = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let is_asin = asin.len() == 10 && asin.bytes().all(is_part);
    checks.require(is_asin, UserErrorCode::Invalid, "asin", ASIN_FORM);
}

fn check_price(checks: &mut Checks, price: &MoneyInput) -> Option<i64> {
    let minor = price.minor(checks, "price");
    let is_some = minor.is_none_or(|minor| minor >= 0);
    checks.require(
        is_some,
        UserErrorCode::TooSmall,
        "price.amount",
        "is less than nothing",
    );
    minor
}

async fn update(tx: &TenantTx, input: UpdateProductInput) -> Written<Product> {
    let mut checks = Checks::new();
    if let Some(asin) = checks.change("asin", &input.asin) {
        check_asin(&mut checks, asin);
    }
    if let Some(title) = input.title.value() {
        checks.text("title", title, TITLE);
    }
    let price = input
        .price
        .value()
        .and_then(|price| check_price(&mut checks, price));
    checks.done()?;
    let mut update = Update::<Product>::new(input.id, input.if_version)
        .change("asin", input.asin)
        .change_or_clear("title", input.title);
    if !input.price.is_undefined() {
        let currency = input
            .price
            .value()
            .map(|price| price.currency_code.to_string());
        update = update.set("price_minor", price).set("currency", currency);
    }
    update.run(tx).await
}

async fn delete(tx: &TenantTx, input: DeleteProductInput) -> Written<Product> {
    delete_where::<Comment>(tx, "product_id", vec![input.id.uuid()]).await?;
    delete_one(tx, input.id, input.if_version).await
}

/// The products to import.
#[derive(Debug, InputObject)]
pub struct ImportProductsInput {
    /// The products, at most 1,000.
    pub rows: Vec<CreateProductInput>,
    /// All or none: if one cannot be made, none is. Otherwise those are that can be.
    #[graphql(default = true)]
    pub atomic: bool,
    /// A key of the client's choice, 1 to 255 characters: the same input with the same key within 24
    /// hours is answered and not done again.
    pub idempotency_key: Option<String>,
}

/// What came of `importProducts`.
#[derive(Debug, SimpleObject)]
pub struct ImportProductsPayload {
    /// What came of each product, in the order of the rows.
    pub results: Objects<ImportProductsResult>,
    /// Why nothing was imported. Empty if something was, or if `atomic` is false and each row that was
    /// not has its own errors.
    pub user_errors: Objects<UserError>,
}

/// What came of one product.
#[derive(Debug, SimpleObject)]
#[graphql(complex)]
pub struct ImportProductsResult {
    /// Its place in the list of rows, from 0.
    pub index: i32,
    #[graphql(skip)]
    product_id: Option<ProductId>,
    /// Why it was not made.
    pub user_errors: Objects<UserError>,
}

#[ComplexObject]
impl ImportProductsResult {
    /// The product that was made; null if it was not, or is gone by now.
    async fn product(&self, ctx: &Context<'_>) -> Result<Option<Object<Product>>> {
        ctx.load(self.product_id).await
    }
}

impl From<Outcome<Batch>> for ImportProductsPayload {
    fn from(outcome: Outcome<Batch>) -> Self {
        let (results, user_errors) = batch::results(outcome, |index, row| ImportProductsResult {
            index,
            product_id: row.id.map(ProductId::from),
            user_errors: row.user_errors.into_iter().collect(),
        });
        Self {
            results,
            user_errors,
        }
    }
}

async fn import(ctx: &Context<'_>, input: ImportProductsInput) -> Written<Batch> {
    batch::check_size("rows", input.rows.len(), MAX_IMPORTED)?;
    let terms = Terms {
        list: "rows",
        atomic: input.atomic,
        key: input.idempotency_key.map(|key| batch::Key {
            mutation: "importProducts",
            key,
            content: batch::content(input.atomic, &input.rows),
        }),
    };
    // Boxed: the statements of a batch make for a large future.
    Box::pin(batch::run(ctx, terms, import_each(ctx.tx(), input.rows))).await
}

/// Inserts those that can be, in one statement. Rows with a number that another product has are passed
/// over by it, and so tell themselves apart.
async fn import_each(tx: &TenantTx, inputs: Vec<CreateProductInput>) -> Written<Batch> {
    let mut rows = Vec::with_capacity(inputs.len());
    let mut seen = HashSet::new();
    let mut products = Vec::new();
    for input in inputs {
        let mut checks = Checks::new();
        let price = check(&mut checks, &input);
        checks.require(
            seen.insert(input.asin.clone()),
            UserErrorCode::AlreadyExists,
            "asin",
            "stands in an earlier row as well",
        );
        let failures = checks.into_failures();
        if failures.is_empty() {
            let id = ProductId::generate().uuid();
            products.push(NewProduct {
                id,
                price_minor: price,
                input,
            });
            rows.push(Row::written(id));
        } else {
            rows.push(Row::refused(failures));
        }
    }
    let written = insert_all(tx, &products).await.map_err(Refusal::of)?;
    for row in &mut rows {
        if row.id.is_some_and(|id| !written.contains(&id)) {
            *row = Row::because(UserErrorCode::AlreadyExists, "asin", ASIN_TAKEN);
        }
    }
    Ok(Batch(rows))
}

/// Answers the ids of those that were inserted.
async fn insert_all(tx: &TenantTx, products: &[NewProduct]) -> Written<HashSet<Uuid>> {
    if products.is_empty() {
        return Ok(HashSet::new());
    }
    let mut columns = Columns::default();
    columns.of(products, |product| product.id)?;
    columns.of(products, |product| product.input.asin.clone())?;
    columns.of(products, |product| product.input.title.clone())?;
    columns.of(products, |product| product.price_minor)?;
    columns.of(products, |product| {
        let price = product.input.price.as_ref();
        price.map(|price| price.currency_code.to_string())
    })?;
    let rows = columns
        .fetch_all(
            tx,
            "insert into products (id, asin, title, price_minor, currency)
             select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[])
             on conflict on constraint products_asin_key do nothing
             returning id",
        )
        .await;
    let rows = rows.map_err(|error| refusal(error, Product::RULES))?;
    let ids = rows.iter().map(|row| row.try_get(0));
    Ok(ids.collect::<sqlx::Result<_>>()?)
}

/// A product whose input was checked.
struct NewProduct {
    id: Uuid,
    price_minor: Option<i64>,
    input: CreateProductInput,
}

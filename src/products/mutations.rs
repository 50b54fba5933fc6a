//! What changes products.

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
        mutation::{Write as _, payload, targets},
        object::{Object, Objects},
        relations::RootMutations,
        scalars::MoneyInput,
    },
    ids::{EntityId as _, ProductId},
    user_error::{UserError, UserErrorCode},
};

/// Most characters of a title.
const TITLE: usize = 300;
const ASIN_FORM: &str = "is not ten capital letters and digits";
const ASIN_TAKEN: &str = "is the number of another product";

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
            ASIN_FORM,
        ),
        ConstraintRule::new(
            "products_title_length",
            UserErrorCode::Invalid,
            "title",
            "has 1 to 300 characters",
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
            "is not a supported currency",
        ),
    ];
    const REFERRERS: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "invoice_line_items_product_fkey",
            UserErrorCode::InvalidState,
            "id",
            "stands on invoices: archive it instead",
        ),
        ConstraintRule::new(
            "comments_product_fkey",
            UserErrorCode::InvalidState,
            "id",
            "has comments of others, which you may not delete: archive it instead",
        ),
    ];
}

impl Archivable for Product {}

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
        ctx.write(archive::<Product>(ctx.tx(), input.id, input.if_version))
            .await
    }

    /// Takes a product out of the archive. For all but viewers.
    async fn unarchive_product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which product.")] input: UnarchiveProductInput,
    ) -> Result<Object<UnarchiveProductPayload>> {
        ctx.write(unarchive::<Product>(ctx.tx(), input.id, input.if_version))
            .await
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
        checks.text("title", title, TITLE);
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

/// The products to import.
#[derive(Debug, InputObject)]
pub struct ImportProductsInput {
    /// The products: at most 1,000.
    pub rows: Vec<CreateProductInput>,
    #[graphql(flatten)]
    options: BulkOptions,
}

/// The payload of the `importProducts` mutation.
pub type ImportProductsPayload = BulkPayload<ImportProductsResult>;

/// The result of one product in `importProducts`.
#[derive(Debug, SimpleObject)]
#[graphql(complex)]
pub struct ImportProductsResult {
    /// The index of the product in `rows`, from 0.
    pub index: i32,
    #[graphql(skip)]
    product_id: Option<ProductId>,
    /// The reasons why the product was not created; empty if it was.
    pub user_errors: Objects<UserError>,
}

#[ComplexObject]
impl ImportProductsResult {
    /// The created product; null if it was not created or has been deleted since.
    async fn product(&self, ctx: &Context<'_>) -> Result<Option<Object<Product>>> {
        ctx.load(self.product_id).await
    }
}

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

/// Inserts those that can be, in one statement. Rows with a number that another product has are passed
/// over by it, and so tell themselves apart.
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

/// Returns the ids of the products that it inserted.
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

/// A product whose input was checked.
struct NewProduct<'i> {
    id: Uuid,
    price_minor: Option<i64>,
    input: &'i CreateProductInput,
}

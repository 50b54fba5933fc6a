//! The mutations of the lines of a draft.
//!
//! Each mutation locks the invoice first. So no other transaction issues the invoice or changes its lines at
//! the same time, and two mutations of lines of one invoice cannot deadlock.

use async_graphql::{Context, InputObject, MaybeUndefined};
use rust_decimal::RoundingStrategy;
use uuid::Uuid;

use super::{Invoice, InvoiceLineItem, InvoiceStatus};
use crate::{
    db::{
        TenantTx,
        bulk::InsertMany,
        filter::Filter,
        write::{
            ConstraintRule, Insert, Update, Writable, WriteError, WriteResult, delete_one, find,
            lock_one, lock_parent, next_position, referred_to,
        },
        write_error::AMOUNT_TOO_LARGE,
    },
    error::{Error, Result},
    graphql::{
        checks::Checks,
        context::ContextExt as _,
        enums::StoredEnum as _,
        mutation::{Write as _, payload, targets},
        object::Object,
        relations::RootMutations,
        scalars::{CurrencyCode, Decimal},
    },
    ids::{EntityId as _, InvoiceId, InvoiceLineItemId, ProductId},
    products::Product,
    user_error::UserErrorCode,
};

/// The message for a change of an invoice that is not a draft.
pub(super) const NOT_DRAFT: &str = "is issued and can no longer be changed";
/// The maximum length of a description in characters.
const MAX_DESCRIPTION_LENGTH: usize = 500;
/// The maximum number of decimal places of a quantity and of a tax rate.
const MAX_DECIMAL_PLACES: u32 = 4;
/// The absolute value of a quantity is less than this: ten digits before the decimal point.
const QUANTITY_LIMIT: i64 = 10_000_000_000;

impl Writable for InvoiceLineItem {
    const RULES: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "invoice_line_items_product_fkey",
            UserErrorCode::NotFound,
            "productId",
            "Product not found",
        ),
        ConstraintRule::new(
            "invoice_line_items_description_length",
            UserErrorCode::Invalid,
            "description",
            "must have 1 to 500 characters",
        ),
        ConstraintRule::new(
            "invoice_line_items_tax_rate_range",
            UserErrorCode::Invalid,
            "taxRate",
            "must be between 0 and 1",
        ),
    ];
}

/// A line to create on an invoice.
#[derive(Debug, InputObject)]
pub struct InvoiceLineItemInput {
    /// A description of what is billed; 1 to 500 characters.
    pub description: String,
    /// The ID of the product that is billed.
    pub product_id: Option<ProductId>,
    /// The quantity, with up to ten digits before the decimal point and four after it. A negative quantity is a
    /// credit.
    pub quantity: Decimal,
    /// The price per unit, in the currency of the invoice, without tax. A negative price is a discount.
    pub unit_price: Decimal,
    /// The tax rate as a fraction from 0 to 1, with up to four decimal places: 0.19 is 19 percent.
    pub tax_rate: Option<Decimal>,
}

/// The input of the `addInvoiceLineItem` mutation.
#[derive(Debug, InputObject)]
pub struct AddInvoiceLineItemInput {
    /// The ID of the draft invoice. The new line gets the last position.
    pub invoice_id: InvoiceId,
    /// The fields of the line.
    #[graphql(flatten)]
    pub line: InvoiceLineItemInput,
}

/// The input of the `updateInvoiceLineItem` mutation. A field that is left out keeps its value; null clears it.
#[derive(Debug, InputObject)]
pub struct UpdateInvoiceLineItemInput {
    /// The ID of the line.
    pub id: InvoiceLineItemId,
    /// The version that the client last read. If the line has changed since, nothing is written and the error
    /// CONFLICT is returned.
    pub if_version: Option<i32>,
    /// A description of what is billed; 1 to 500 characters. Cannot be cleared.
    pub description: MaybeUndefined<String>,
    /// The ID of the product that is billed.
    pub product_id: MaybeUndefined<ProductId>,
    /// The quantity. Cannot be cleared.
    pub quantity: MaybeUndefined<Decimal>,
    /// The price per unit, in the currency of the invoice, without tax. Cannot be cleared.
    pub unit_price: MaybeUndefined<Decimal>,
    /// The tax rate as a fraction from 0 to 1.
    pub tax_rate: MaybeUndefined<Decimal>,
}

targets! {
    /// The input of the `removeInvoiceLineItem` mutation.
    RemoveInvoiceLineItemInput(InvoiceLineItemId)
}

payload! {
    /// The payload of the `addInvoiceLineItem` mutation. `lineItem.invoice` has the new totals.
    AddInvoiceLineItemPayload { line_item: InvoiceLineItem }
    /// The payload of the `updateInvoiceLineItem` mutation. `lineItem.invoice` has the new totals.
    UpdateInvoiceLineItemPayload { line_item: InvoiceLineItem }
    /// The payload of the `removeInvoiceLineItem` mutation. `lineItem.invoice` has the new totals.
    RemoveInvoiceLineItemPayload { line_item: InvoiceLineItem }
}

/// The mutations of this slice.
#[derive(Debug, Default)]
pub struct InvoiceLineItemMutations;

impl RootMutations for InvoiceLineItem {
    type Mutations = InvoiceLineItemMutations;
}

#[async_graphql::Object]
impl InvoiceLineItemMutations {
    /// Adds a line to a draft invoice. Only the roles `OWNER`, `ADMIN` and `BILLING` may do so.
    async fn add_invoice_line_item(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The draft and the new line.")] input: AddInvoiceLineItemInput,
    ) -> Result<Object<AddInvoiceLineItemPayload>> {
        ctx.write(add(ctx.tx(), input)).await
    }

    /// Updates a line of a draft invoice. Only the roles `OWNER`, `ADMIN` and `BILLING` may do so.
    async fn update_invoice_line_item(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The line and the fields to change.")] input: UpdateInvoiceLineItemInput,
    ) -> Result<Object<UpdateInvoiceLineItemPayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Removes a line from a draft invoice. Only the roles `OWNER`, `ADMIN` and `BILLING` may do so. The other lines
    /// keep their positions.
    async fn remove_invoice_line_item(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The line to remove.")] input: RemoveInvoiceLineItemInput,
    ) -> Result<Object<RemoveInvoiceLineItemPayload>> {
        ctx.write(remove(ctx.tx(), input)).await
    }
}

/// A line whose input passed the checks.
pub struct CheckedLine {
    product: Option<Uuid>,
    description: String,
    quantity: rust_decimal::Decimal,
    unit_price_minor: i64,
    tax_rate: Option<rust_decimal::Decimal>,
}

/// Checks the lines of an invoice.
pub fn check_all(
    checks: &mut Checks,
    lines: Vec<InvoiceLineItemInput>,
    currency: &CurrencyCode,
) -> Vec<CheckedLine> {
    let mut checked = Vec::with_capacity(lines.len());
    for (index, line) in lines.into_iter().enumerate() {
        let mut line_checks = Checks::new();
        checked.extend(check(&mut line_checks, line, currency));
        let failures = line_checks.into_failures().into_iter();
        checks.extend(failures.map(|failure| failure.in_row("lineItems", index)));
    }
    checked
}

fn check(
    checks: &mut Checks,
    line: InvoiceLineItemInput,
    currency: &CurrencyCode,
) -> Option<CheckedLine> {
    checks.text("description", &line.description, MAX_DESCRIPTION_LENGTH);
    check_quantity(checks, line.quantity);
    let unit_price = line.unit_price.to_minor_units(currency);
    let unit_price_minor = checks.amount("unitPrice", unit_price)?;
    if let Some(rate) = line.tax_rate {
        check_tax_rate(checks, rate);
    }
    Some(CheckedLine {
        product: line.product_id.map(ProductId::uuid),
        description: line.description,
        quantity: line.quantity.0,
        unit_price_minor,
        tax_rate: line.tax_rate.map(|rate| rate.0),
    })
}

fn check_quantity(checks: &mut Checks, quantity: Decimal) {
    check_scale(checks, quantity, "quantity");
    let is_large = quantity.0.abs() >= QUANTITY_LIMIT.into();
    let message = "must have at most ten digits before the decimal point";
    checks.require(!is_large, UserErrorCode::TooLarge, "quantity", message);
}

fn check_tax_rate(checks: &mut Checks, rate: Decimal) {
    check_scale(checks, rate, "taxRate");
    let is_small = rate.0 < rust_decimal::Decimal::ZERO;
    checks.require(
        !is_small,
        UserErrorCode::TooSmall,
        "taxRate",
        "must not be negative",
    );
    let is_large = rate.0 > rust_decimal::Decimal::ONE;
    checks.require(
        !is_large,
        UserErrorCode::TooLarge,
        "taxRate",
        "must be at most 1, which is 100 percent",
    );
}

fn check_scale(checks: &mut Checks, number: Decimal, field: &str) {
    let fits = number.0.normalize().scale() <= MAX_DECIMAL_PLACES;
    let message = format!("must have at most {MAX_DECIMAL_PLACES} decimal places");
    checks.require(fits, UserErrorCode::Invalid, field, message);
}

/// Adds the lines of a new invoice in one statement.
pub async fn insert_all(
    tx: &TenantTx,
    invoice: &Invoice,
    lines: Vec<CheckedLine>,
) -> WriteResult<()> {
    check_products(tx, &lines).await?;
    let mut rows = Vec::with_capacity(lines.len());
    for (position, line) in (1..).zip(lines) {
        let amount_minor = amount_minor(line.quantity, line.unit_price_minor)?;
        rows.push((position, amount_minor, line));
    }
    let inserted = InsertMany::<InvoiceLineItem, (i32, i64, CheckedLine)>::new(&rows)
        .shared("invoice_id", invoice.id.uuid())
        .shared("currency", invoice.currency.get()?.as_str())
        .column("id", |_| InvoiceLineItemId::generate().uuid())
        .column("position", |(position, ..)| *position)
        .column("product_id", |(.., line)| line.product)
        .column("description", |(.., line)| line.description.clone())
        .column("quantity", |(.., line)| line.quantity)
        .column("unit_price_minor", |(.., line)| line.unit_price_minor)
        .column("amount_minor", |(_, amount_minor, _)| *amount_minor)
        .column("tax_rate", |(.., line)| line.tax_rate)
        .run(tx)
        .await;
    inserted.map(drop).map_err(WriteError::without_value)
}

/// The amount of a line in minor units, rounded half away from zero as PostgreSQL's `round` does. The
/// constraint `invoice_line_items_amount_adds_up` requires the same.
fn amount_minor<T>(
    quantity: rust_decimal::Decimal,
    unit_price_minor: i64,
) -> Result<i64, WriteError<T>> {
    // The product is exact: an amount that fits into 64 bits has at most 23 digits here, and a decimal
    // number has 28.
    let amount = quantity.normalize().checked_mul(unit_price_minor.into());
    amount
        .map(|amount| amount.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero))
        .and_then(|amount| i64::try_from(amount).ok())
        .ok_or_else(|| WriteError::rejected(UserErrorCode::TooLarge, "", AMOUNT_TOO_LARGE))
}

/// Reports each line whose product does not exist. The error of a foreign key would not name the line.
async fn check_products(tx: &TenantTx, lines: &[CheckedLine]) -> WriteResult<()> {
    let products: Vec<Uuid> = lines.iter().filter_map(|line| line.product).collect();
    if products.is_empty() {
        return Ok(());
    }
    let existing = referred_to::<Product>(tx, "id", products, &Filter::default()).await?;
    let mut checks = Checks::new();
    for (index, line) in lines.iter().enumerate() {
        let exists = line
            .product
            .is_none_or(|product| existing.contains(&product));
        let field = format!("lineItems.{index}.productId");
        checks.require(exists, UserErrorCode::NotFound, &field, "Product not found");
    }
    checks.finish()
}

async fn add(tx: &TenantTx, input: AddInvoiceLineItemInput) -> WriteResult<InvoiceLineItem> {
    let invoice = lock_draft(tx, input.invoice_id, "invoiceId").await?;
    let mut checks = Checks::new();
    let line = check(&mut checks, input.line, invoice.currency.get()?);
    checks.finish()?;
    let line =
        line.ok_or_else(|| Error::Internal("a line was rejected without a reason".into()))?;
    let amount_minor = amount_minor(line.quantity, line.unit_price_minor)?;
    let position = next_position::<InvoiceLineItem>(tx, "invoice_id", invoice.id.uuid()).await?;
    let row = Insert::<InvoiceLineItem>::new(InvoiceLineItemId::generate())
        .set("invoice_id", invoice.id.uuid())
        .set("product_id", line.product)
        .set("position", position)
        .set("description", line.description)
        .set("quantity", line.quantity)
        .set("unit_price_minor", line.unit_price_minor)
        .set("amount_minor", amount_minor)
        .set("tax_rate", line.tax_rate)
        .set("currency", invoice.currency.get()?.as_str())
        .run(tx)
        .await?;
    sum_up(tx, invoice.id)
        .await
        .map_err(WriteError::without_value)?;
    Ok(row)
}

async fn update(tx: &TenantTx, input: UpdateInvoiceLineItemInput) -> WriteResult<InvoiceLineItem> {
    let invoice = lock_draft_of(tx, input.id).await?;
    // Read after the lock: no other transaction can change the quantity or the price now.
    let line = find::<InvoiceLineItem>(tx, input.id).await?;
    let mut checks = Checks::new();
    checks.text_if_present("description", &input.description, MAX_DESCRIPTION_LENGTH);
    let quantity = checks.not_cleared("quantity", &input.quantity).copied();
    if let Some(quantity) = quantity {
        check_quantity(&mut checks, quantity);
    }
    let price = checks.not_cleared("unitPrice", &input.unit_price).copied();
    let currency = invoice.currency.get()?;
    let price = price.and_then(|price| {
        let price = price.to_minor_units(currency);
        checks.amount("unitPrice", price)
    });
    if let Some(rate) = input.tax_rate.value() {
        check_tax_rate(&mut checks, *rate);
    }
    checks.finish()?;

    let mut update = Update::<InvoiceLineItem>::new(input.id, input.if_version)
        .set_if_present("description", input.description)
        .set_or_clear("product_id", input.product_id.map_value(ProductId::uuid))
        .set_or_clear("tax_rate", input.tax_rate.map_value(|rate| rate.0));
    if quantity.is_some() || price.is_some() {
        let quantity = quantity.unwrap_or(line.quantity.copied()?).0;
        let price = price.unwrap_or(line.unit_price_minor.copied()?);
        update = update.set("amount_minor", amount_minor(quantity, price)?);
    }
    if let Some(quantity) = quantity {
        update = update.set("quantity", quantity.0);
    }
    if let Some(price) = price {
        update = update.set("unit_price_minor", price);
    }
    let row = update.run(tx).await?;
    sum_up(tx, invoice.id)
        .await
        .map_err(WriteError::without_value)?;
    Ok(row)
}

async fn remove(tx: &TenantTx, input: RemoveInvoiceLineItemInput) -> WriteResult<InvoiceLineItem> {
    let invoice = lock_draft_of(tx, input.id).await?;
    let row = delete_one(tx, input.id, input.if_version).await?;
    sum_up(tx, invoice.id)
        .await
        .map_err(WriteError::without_value)?;
    Ok(row)
}

/// Locks the invoice of a line. The invoice must be a draft.
async fn lock_draft_of<T>(
    tx: &TenantTx,
    line: InvoiceLineItemId,
) -> Result<Invoice, WriteError<T>> {
    let invoice = lock_parent::<Invoice, InvoiceLineItem>(tx, "invoice_id", line).await;
    require_draft(invoice, "id")
}

/// Locks an invoice, which must be a draft. `field` is the input field that contains its id.
async fn lock_draft<T>(
    tx: &TenantTx,
    id: InvoiceId,
    field: &str,
) -> Result<Invoice, WriteError<T>> {
    require_draft(lock_one::<Invoice>(tx, id).await, field)
}

fn require_draft<T>(invoice: Result<Invoice>, field: &str) -> Result<Invoice, WriteError<T>> {
    match invoice {
        Ok(invoice) if *invoice.status.get()? == InvoiceStatus::Draft => Ok(invoice),
        Ok(_) => Err(WriteError::rejected(
            UserErrorCode::InvalidState,
            field,
            NOT_DRAFT,
        )),
        Err(error @ Error::NotFound(_)) => {
            let message = error.to_string();
            Err(WriteError::rejected(
                UserErrorCode::NotFound,
                field,
                message,
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// Updates the totals of a draft. The database computes the totals at every update of the row, even if the update
/// changes no value.
pub(super) async fn sum_up(tx: &TenantTx, id: InvoiceId) -> WriteResult<Invoice> {
    Update::<Invoice>::new(id, None)
        .set("status", InvoiceStatus::Draft.as_str())
        .only_if("status", "DRAFT", NOT_DRAFT)
        .run(tx)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(quantity: &str, unit_price_minor: i64) -> Option<i64> {
        amount_minor::<()>(quantity.parse().unwrap(), unit_price_minor).ok()
    }

    #[test]
    fn an_amount_is_rounded_half_away_from_zero() {
        for (quantity, unit_price_minor, expected) in [
            ("2", 1999, 3998),
            ("0.5", 1, 1),
            ("0.4999", 1, 0),
            ("0.5", -1, -1),
            ("-0.5", 1, -1),
            ("1.5", 3, 5),
            ("2.5", 1, 3),
            ("0.0001", 5_000, 1),
            ("0.0001", 4_999, 0),
            ("1.0000000000000000000000000000", i64::MAX, i64::MAX),
            ("9999999999.9999", 922_337_203, 9_223_372_029_999_907_766),
        ] {
            let found = amount(quantity, unit_price_minor);
            assert_eq!(found, Some(expected), "{quantity} × {unit_price_minor}");
        }
    }

    #[test]
    fn an_amount_that_does_not_fit_is_rejected() {
        for (quantity, unit_price_minor) in [
            ("1.0001", i64::MAX),
            ("-2", i64::MAX),
            ("9999999999.9999", i64::MAX),
            ("9999999999.9999", i64::MIN),
            ("9999999999.9999", 922_337_204),
        ] {
            let found = amount(quantity, unit_price_minor);
            assert_eq!(found, None, "{quantity} × {unit_price_minor}");
        }
    }
}

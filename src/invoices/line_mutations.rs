//! What changes the lines of a draft.
//!
//! Each of these takes the invoice first: nobody issues it or changes its lines meanwhile, and two that
//! change lines of one invoice never wait for each other in a circle.

use async_graphql::{Context, InputObject, MaybeUndefined};
use uuid::Uuid;

use super::{
    Invoice, InvoiceLineItem, InvoiceStatus,
    mutations::{NOT_DRAFT, sum_up},
};
use crate::{
    db::{
        TenantTx,
        bulk::Columns,
        page::Filter,
        write::{
            Insert, Update, Value, Writable, Written, delete_one, find, lock_one, referred_to,
            refusal,
        },
    },
    error::{Error, Result},
    graphql::{
        context::ContextExt as _,
        mutation::{Write as _, payload, targets},
        object::Object,
        relations::RootMutations,
        scalars::{CurrencyCode, Decimal},
    },
    ids::{EntityId as _, InvoiceId, InvoiceLineItemId, ProductId},
    products::Product,
    user_error::{Checks, Refusal, Rule, UserErrorCode},
};

/// Most characters of a description.
const DESCRIPTION: usize = 500;
/// Digits behind the point of a quantity and of a tax rate.
const SCALE: u32 = 4;
/// A quantity is smaller than this: ten digits before the point.
const QUANTITY: i64 = 10_000_000_000;

impl Writable for InvoiceLineItem {
    const RULES: &'static [Rule] = &[
        Rule::new(
            "invoice_line_items_product_fkey",
            UserErrorCode::NotFound,
            "productId",
            "Product not found",
        ),
        Rule::new(
            "invoice_line_items_description_length",
            UserErrorCode::Invalid,
            "description",
            "has 1 to 500 characters",
        ),
        Rule::new(
            "invoice_line_items_tax_rate_range",
            UserErrorCode::Invalid,
            "taxRate",
            "is not between 0 and 1",
        ),
    ];
}

/// A line of an invoice.
#[derive(Debug, InputObject)]
pub struct InvoiceLineItemInput {
    /// What is billed; 1 to 500 characters.
    pub description: String,
    /// The product that is billed.
    pub product_id: Option<ProductId>,
    /// How much or how many of it, with up to ten digits before the point and four behind it. Less
    /// than nothing takes something back.
    pub quantity: Decimal,
    /// The price of one, in the currency of the invoice. Less than nothing is a discount.
    pub unit_price: Decimal,
    /// The tax on it, as a fraction with up to four digits: 0.19 is 19 percent.
    pub tax_rate: Option<Decimal>,
}

/// The line to add, and the draft to add it to.
#[derive(Debug, InputObject)]
pub struct AddInvoiceLineItemInput {
    /// The draft. The line becomes its last.
    pub invoice_id: InvoiceId,
    /// What is billed; 1 to 500 characters.
    pub description: String,
    /// The product that is billed.
    pub product_id: Option<ProductId>,
    /// How much or how many of it, with up to ten digits before the point and four behind it. Less
    /// than nothing takes something back.
    pub quantity: Decimal,
    /// The price of one, in the currency of the invoice. Less than nothing is a discount.
    pub unit_price: Decimal,
    /// The tax on it, as a fraction with up to four digits: 0.19 is 19 percent.
    pub tax_rate: Option<Decimal>,
}

/// What is to change about a line. A field that is left out stays as it is, and null clears it.
#[derive(Debug, InputObject)]
pub struct UpdateInvoiceLineItemInput {
    /// Its id.
    pub id: InvoiceLineItemId,
    /// Only if it still has this version; otherwise CONFLICT.
    pub if_version: Option<i32>,
    /// What is billed; 1 to 500 characters. Cannot be cleared.
    pub description: MaybeUndefined<String>,
    /// The product that is billed.
    pub product_id: MaybeUndefined<ProductId>,
    /// How much or how many of it. Cannot be cleared.
    pub quantity: MaybeUndefined<Decimal>,
    /// The price of one, in the currency of the invoice. Cannot be cleared.
    pub unit_price: MaybeUndefined<Decimal>,
    /// The tax on it, as a fraction.
    pub tax_rate: MaybeUndefined<Decimal>,
}

targets! {
    /// The line to remove. The places of the others stay as they are.
    RemoveInvoiceLineItemInput(InvoiceLineItemId)
}

payload! {
    /// What came of `addInvoiceLineItem`. The totals are those of `lineItem.invoice`.
    AddInvoiceLineItemPayload { line_item: InvoiceLineItem }
    /// What came of `updateInvoiceLineItem`. The totals are those of `lineItem.invoice`.
    UpdateInvoiceLineItemPayload { line_item: InvoiceLineItem }
    /// What came of `removeInvoiceLineItem`: the line as it was. The totals are those of
    /// `lineItem.invoice`.
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
    /// Adds a line to a draft. For owners, admins and billing.
    async fn add_invoice_line_item(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which draft, and the line.")] input: AddInvoiceLineItemInput,
    ) -> Result<Object<AddInvoiceLineItemPayload>> {
        ctx.write(add(ctx.tx(), input)).await
    }

    /// Changes a line of a draft. For owners, admins and billing.
    async fn update_invoice_line_item(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which line, and what is to change.")] input: UpdateInvoiceLineItemInput,
    ) -> Result<Object<UpdateInvoiceLineItemPayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Removes a line from a draft. For owners, admins and billing.
    async fn remove_invoice_line_item(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which line.")] input: RemoveInvoiceLineItemInput,
    ) -> Result<Object<RemoveInvoiceLineItemPayload>> {
        ctx.write(remove(ctx.tx(), input)).await
    }
}

/// A line whose input was checked.
pub struct Line {
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
) -> Vec<Line> {
    let mut checked = Vec::with_capacity(lines.len());
    for (index, line) in lines.into_iter().enumerate() {
        let mut of_line = Checks::new();
        checked.extend(check(&mut of_line, line, currency));
        let failures = of_line.into_failures().into_iter();
        checks.extend(failures.map(|failure| failure.in_row("lineItems", index)));
    }
    checked
}

fn check(checks: &mut Checks, line: InvoiceLineItemInput, currency: &CurrencyCode) -> Option<Line> {
    checks.text("description", &line.description, DESCRIPTION);
    check_quantity(checks, line.quantity);
    let unit_price_minor = line.unit_price.minor(currency, checks, "unitPrice")?;
    if let Some(rate) = line.tax_rate {
        check_tax_rate(checks, rate);
    }
    Some(Line {
        product: line.product_id.map(ProductId::uuid),
        description: line.description,
        quantity: line.quantity.0,
        unit_price_minor,
        tax_rate: line.tax_rate.map(|rate| rate.0),
    })
}

fn check_quantity(checks: &mut Checks, quantity: Decimal) {
    check_scale(checks, quantity, "quantity");
    let is_large = quantity.0.abs() >= QUANTITY.into();
    let message = "has more than ten digits before the point";
    checks.require(!is_large, UserErrorCode::TooLarge, "quantity", message);
}

fn check_tax_rate(checks: &mut Checks, rate: Decimal) {
    check_scale(checks, rate, "taxRate");
    let is_small = rate.0 < rust_decimal::Decimal::ZERO;
    checks.require(
        !is_small,
        UserErrorCode::TooSmall,
        "taxRate",
        "is less than 0",
    );
    let is_large = rate.0 > rust_decimal::Decimal::ONE;
    checks.require(
        !is_large,
        UserErrorCode::TooLarge,
        "taxRate",
        "is more than 1, which is 100 percent",
    );
}

fn check_scale(checks: &mut Checks, number: Decimal, field: &str) {
    let fits = number.0.normalize().scale() <= SCALE;
    let message = format!("has more than {SCALE} digits behind the point");
    checks.require(fits, UserErrorCode::Invalid, field, message);
}

/// Adds the lines of a new invoice in one statement.
pub async fn insert_all(tx: &TenantTx, invoice: &Invoice, lines: Vec<Line>) -> Written<()> {
    check_products(tx, &lines).await?;
    let mut columns = Columns::default();
    columns.shared(invoice.id.uuid())?;
    columns.shared(invoice.currency.as_str())?;
    columns.of(&lines, |_| InvoiceLineItemId::generate().uuid())?;
    columns.of(&lines, |line| line.product)?;
    columns.of(&lines, |line| line.description.clone())?;
    columns.of(&lines, |line| line.quantity)?;
    columns.of(&lines, |line| line.unit_price_minor)?;
    columns.of(&lines, |line| line.tax_rate)?;
    let inserted = columns
        .execute(
            tx,
            "insert into invoice_line_items
                 (id, invoice_id, product_id, position, description, quantity, unit_price_minor,
                  amount_minor, tax_rate, currency)
             select id, $1, product_id, position, description, quantity, unit_price_minor,
                    round(quantity * unit_price_minor)::bigint, tax_rate, $2
             from unnest($3::uuid[], $4::uuid[], $5::text[], $6::numeric[], $7::bigint[],
                         $8::numeric[]) with ordinality as line
                      (id, product_id, description, quantity, unit_price_minor, tax_rate, position)",
        )
        .await;
    inserted.map_err(|error| refusal(error, InvoiceLineItem::RULES))?;
    Ok(())
}

/// Says which lines name a product that is not there: the foreign key would name none of them.
async fn check_products(tx: &TenantTx, lines: &[Line]) -> Written<()> {
    let named: Vec<Uuid> = lines.iter().filter_map(|line| line.product).collect();
    if named.is_empty() {
        return Ok(());
    }
    let there = referred_to::<Product>(tx, "id", named, &Filter::default()).await?;
    let mut checks = Checks::new();
    for (index, line) in lines.iter().enumerate() {
        let is_there = line.product.is_none_or(|product| there.contains(&product));
        let field = format!("lineItems.{index}.productId");
        checks.require(
            is_there,
            UserErrorCode::NotFound,
            &field,
            "Product not found",
        );
    }
    checks.done()
}

async fn add(tx: &TenantTx, input: AddInvoiceLineItemInput) -> Written<InvoiceLineItem> {
    let invoice = draft(tx, input.invoice_id, "invoiceId").await?;
    let line = InvoiceLineItemInput {
        description: input.description,
        product_id: input.product_id,
        quantity: input.quantity,
        unit_price: input.unit_price,
        tax_rate: input.tax_rate,
    };
    let mut checks = Checks::new();
    let line = check(&mut checks, line, &invoice.currency);
    checks.done()?;
    let line = line.ok_or_else(|| Error::Internal("a line was refused without a reason".into()))?;
    let last = vec![invoice.id.uuid().into()];
    let row = Insert::<InvoiceLineItem>::new(InvoiceLineItemId::generate())
        .set("invoice_id", invoice.id.uuid())
        .set("product_id", line.product)
        .compute(
            "position",
            "(select coalesce(max(position), 0) + 1 from invoice_line_items where invoice_id = $1)",
            last,
        )
        .set("description", line.description)
        .set("quantity", line.quantity)
        .set("unit_price_minor", line.unit_price_minor)
        .compute(
            "amount_minor",
            "round($1::numeric * $2::bigint)::bigint",
            vec![line.quantity.into(), line.unit_price_minor.into()],
        )
        .set("tax_rate", line.tax_rate)
        .set("currency", invoice.currency.as_str())
        .run(tx)
        .await?;
    sum_up(tx, invoice.id).await.map_err(Refusal::of)?;
    Ok(row)
}

async fn update(tx: &TenantTx, input: UpdateInvoiceLineItemInput) -> Written<InvoiceLineItem> {
    let line = find::<InvoiceLineItem>(tx, input.id).await?;
    let invoice = draft(tx, line.invoice_id, "id").await?;
    let mut checks = Checks::new();
    checks.changed_text("description", &input.description, DESCRIPTION);
    let quantity = checks.change("quantity", &input.quantity).copied();
    if let Some(quantity) = quantity {
        check_quantity(&mut checks, quantity);
    }
    let price = checks.change("unitPrice", &input.unit_price).copied();
    let price = price.and_then(|price| price.minor(&invoice.currency, &mut checks, "unitPrice"));
    if let Some(rate) = input.tax_rate.value() {
        check_tax_rate(&mut checks, *rate);
    }
    checks.done()?;

    let mut update = Update::<InvoiceLineItem>::new(input.id, input.if_version)
        .change("description", input.description)
        .change_or_clear("product_id", input.product_id.map_value(ProductId::uuid))
        .change_or_clear("tax_rate", input.tax_rate.map_value(|rate| rate.0));
    if let Some(quantity) = quantity {
        update = update.set("quantity", quantity.0);
    }
    if let Some(price) = price {
        update = update.set("unit_price_minor", price);
    }
    if quantity.is_some() || price.is_some() {
        let given: Vec<Value> = vec![quantity.map(|quantity| quantity.0).into(), price.into()];
        update = update.compute(
            "amount_minor",
            "round(coalesce($1::numeric, quantity) * coalesce($2::bigint, unit_price_minor))::bigint",
            given,
        );
    }
    let row = update.run(tx).await?;
    sum_up(tx, invoice.id).await.map_err(Refusal::of)?;
    Ok(row)
}

async fn remove(tx: &TenantTx, input: RemoveInvoiceLineItemInput) -> Written<InvoiceLineItem> {
    let line = find::<InvoiceLineItem>(tx, input.id).await?;
    let invoice = draft(tx, line.invoice_id, "id").await?;
    let row = delete_one(tx, input.id, input.if_version).await?;
    sum_up(tx, invoice.id).await.map_err(Refusal::of)?;
    Ok(row)
}

/// Takes an invoice that is still a draft; `field` is the input that leads to it.
async fn draft<T>(tx: &TenantTx, id: InvoiceId, field: &str) -> Result<Invoice, Refusal<T>> {
    match lock_one::<Invoice>(tx, id).await {
        Ok(invoice) if invoice.status == InvoiceStatus::Draft => Ok(invoice),
        Ok(_) => Err(Refusal::because(
            UserErrorCode::InvalidState,
            field,
            NOT_DRAFT,
        )),
        Err(Error::NotFound(what)) => {
            let message = Error::NotFound(what).to_string();
            Err(Refusal::because(UserErrorCode::NotFound, field, message))
        }
        Err(error) => Err(error.into()),
    }
}

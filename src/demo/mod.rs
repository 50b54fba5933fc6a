//! Demo tenants. The same amounts always give the same data.
//!
//! `palisade_admin` creates the tenants and their users. All other rows are written in bulk by tenant
//! transactions as `palisade_app`, each by a user whose role allows it. The audit log therefore
//! records real changes.

mod content;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::{
    audit::sealing,
    auth::role::UserRole,
    comments::Comment,
    db::{
        Operation, Purpose, TenantContext, TenantDb, TenantTx,
        admin_tx::{AdminDb, NewMember, NewTenant},
        bulk::{InsertMany, UpdateMany},
        write::{WriteError, WriteResult},
    },
    error::{Error, Result},
    graphql::enums::StoredEnum as _,
    ids::EntityId,
    invoices::{Invoice, InvoiceLineItem, InvoiceStatus},
    organizations::Organization,
    products::Product,
    projects::Project,
};

use content::TenantContent;

/// The amounts of demo data.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Amounts {
    /// Number of tenants. Existing tenants are not changed.
    #[arg(long, env = "PALISADE_DEMO_TENANTS", default_value_t = 3, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tenants: u32,
    /// Number of projects per tenant.
    #[arg(long, env = "PALISADE_DEMO_PROJECTS", default_value_t = 24, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub projects: u32,
    /// Number of invoices per project.
    #[arg(long, env = "PALISADE_DEMO_INVOICES", default_value_t = 6, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub invoices: u32,
    /// Number of audit log entries per project. The number is higher if the content alone needs more entries.
    #[arg(long, env = "PALISADE_DEMO_AUDIT_LOGS", default_value_t = 40, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub audit_logs: u32,
}

impl Default for Amounts {
    fn default() -> Self {
        Self {
            tenants: 3,
            projects: 24,
            invoices: 6,
            audit_logs: 40,
        }
    }
}

/// The slug and the owner's email address of each of the first tenants.
pub fn owners(tenants: u32) -> impl Iterator<Item = (String, String)> {
    (0..tenants).map(|number| {
        let (tenant, members) = content::tenant(number);
        (tenant.slug, members[0].email.clone())
    })
}

/// Creates the tenants that do not exist yet, and returns their number. Each tenant is completed before the
/// next one is created. If a run is interrupted, its last tenant stays incomplete, also after another run.
pub async fn create_tenants(
    db: &TenantDb,
    admin: &mut AdminDb,
    amounts: Amounts,
    show_progress: bool,
) -> Result<u32> {
    let target = if show_progress {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let progress = ProgressBar::with_draw_target(Some(amounts.tenants.into()), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} tenants, {eta} left") {
        progress.set_style(style);
    }
    let mut created = 0;
    for number in 0..amounts.tenants {
        let (tenant, members) = content::tenant(number);
        if admin.create_tenant(&tenant, &members, db.signer()).await? {
            created += 1;
            TenantWriter {
                db,
                tenant: &tenant,
                members: &members,
            }
            .write(number, amounts)
            .await?;
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(created)
}

/// The maximum number of rows in one statement. The statement must finish well within the statement timeout of
/// the role.
const MAX_ROWS: usize = 2_000;

/// Writes the rows of one tenant.
struct TenantWriter<'t> {
    db: &'t TenantDb,
    tenant: &'t NewTenant,
    members: &'t [NewMember],
}

impl TenantWriter<'_> {
    /// A transaction of one of the tenant's users.
    fn transaction_of(&self, member: &NewMember) -> TenantTx {
        let context = TenantContext {
            tenant: self.tenant.id,
            user: Some(member.user),
            role: Some(member.role),
        };
        TenantTx::new(
            self.db.clone(),
            context,
            Purpose::Write,
            Operation::new(Uuid::now_v7()),
        )
    }

    /// A user with this role, else the owner.
    fn member_with(&self, role: UserRole) -> &NewMember {
        self.members
            .iter()
            .find(|member| member.role == role)
            .unwrap_or(&self.members[0])
    }

    async fn write(&self, number: u32, amounts: Amounts) -> Result<()> {
        let content = TenantContent::new(number, self.members, amounts);

        let tx = self.transaction_of(self.member_with(UserRole::Owner));
        self.organizations(&tx, &content).await?;
        self.products(&tx, &content).await?;
        for projects in content.projects.chunks(MAX_ROWS) {
            self.projects(&tx, projects).await?;
        }
        tx.commit().await?;

        for invoices in content.invoices.chunks(MAX_ROWS) {
            let tx = self.transaction_of(self.member_with(UserRole::Billing));
            self.invoices(&tx, invoices).await?;
            for lines in content.lines_of(invoices).chunks(MAX_ROWS) {
                self.lines(&tx, lines).await?;
            }
            self.finish_invoices(&tx, invoices).await?;
            tx.commit().await?;
        }

        for (author, comments) in content.comments_by_author() {
            let tx = self.transaction_of(author);
            for comments in comments.chunks(MAX_ROWS) {
                self.comments(&tx, comments).await?;
            }
            tx.commit().await?;
        }

        let rounds = content
            .projects
            .iter()
            .map(|project| project.edits)
            .max()
            .unwrap_or_default();
        for round in 0..rounds {
            let editors = [UserRole::Member, UserRole::Admin, UserRole::Owner];
            let editor = self.member_with(editors[round as usize % editors.len()]);
            let projects: Vec<_> = content
                .projects
                .iter()
                .filter(|project| round < project.edits)
                .collect();
            for projects in projects.chunks(MAX_ROWS) {
                let tx = self.transaction_of(editor);
                self.edit_descriptions(&tx, projects, round).await?;
                tx.commit().await?;
            }
        }
        sealing::seal(self.db, self.tenant.id).await?;
        Ok(())
    }

    async fn organizations(&self, tx: &TenantTx, content: &TenantContent<'_>) -> Result<()> {
        let inserted = InsertMany::<Organization, _>::new(&content.organizations)
            .column("id", |row| row.id.uuid())
            .column("name", |row| row.name.clone())
            .column("slug", |row| row.slug.clone())
            .column("created_at", |row| row.created_at)
            .run(tx);
        expect_written(inserted.await)
    }

    async fn products(&self, tx: &TenantTx, content: &TenantContent<'_>) -> Result<()> {
        let inserted = InsertMany::<Product, _>::new(&content.products)
            .column("id", |row| row.id.uuid())
            .column("asin", |row| row.asin.clone())
            .column("title", |row| row.title.clone())
            .column("price_minor", |row| row.price_minor)
            .shared("currency", content.currency)
            .column("created_at", |row| row.created_at)
            .run(tx);
        expect_written(inserted.await)
    }

    async fn projects(&self, tx: &TenantTx, rows: &[content::Project]) -> Result<()> {
        let inserted = InsertMany::<Project, _>::new(rows)
            .column("id", |row| row.id.uuid())
            .column("organization_id", |row| row.organization.uuid())
            .column("owner_id", |row| row.owner.uuid())
            .column("name", |row| row.name.clone())
            .column("status", |row| row.status.as_str().to_owned())
            .column("due_on", |row| row.due_on)
            .column("created_at", |row| row.created_at)
            .run(tx);
        expect_written(inserted.await)
    }

    async fn invoices(&self, tx: &TenantTx, rows: &[content::Invoice]) -> Result<()> {
        let inserted = InsertMany::<Invoice, _>::new(rows)
            .column("id", |row| row.id.uuid())
            .column("organization_id", |row| row.organization.uuid())
            .column("project_id", |row| row.project.uuid())
            .column("currency", |row| row.currency.to_owned())
            .column("created_at", |row| row.created_at)
            .run(tx);
        expect_written(inserted.await)
    }

    async fn lines(&self, tx: &TenantTx, rows: &[content::Line]) -> Result<()> {
        let inserted = InsertMany::<InvoiceLineItem, _>::new(rows)
            .column("id", |row| row.id.uuid())
            .column("invoice_id", |row| row.invoice.uuid())
            .column("product_id", |row| row.product.uuid())
            .column("position", |row| row.position)
            .column("description", |row| row.description.clone())
            .column("quantity", |row| Decimal::from(row.quantity))
            .column("unit_price_minor", |row| row.unit_price_minor)
            .column("amount_minor", |row| row.quantity * row.unit_price_minor)
            .shared("tax_rate", Decimal::new(19, 2))
            .column("currency", |row| row.currency.to_owned())
            .column("created_at", |row| row.created_at)
            .run(tx);
        expect_written(inserted.await)
    }

    /// Issues the invoices that do not stay drafts, in order, then marks some as paid or void. The database
    /// computes the totals and the numbers.
    async fn finish_invoices(&self, tx: &TenantTx, rows: &[content::Invoice]) -> Result<()> {
        let status = |row: &content::Invoice| match row.issued_on {
            None => InvoiceStatus::Draft,
            Some(_) => InvoiceStatus::Open,
        };
        UpdateMany::<Invoice, _>::new(rows, |row| row.id.uuid())
            .column("status", |row| status(row).as_str().to_owned())
            .column("issued_on", |row| row.issued_on)
            .run(tx)
            .await?;
        let settled: Vec<_> = rows.iter().filter(|row| row.is_settled()).collect();
        UpdateMany::<Invoice, _>::new(&settled, |row| row.id.uuid())
            .column("status", |row| row.status.as_str().to_owned())
            .run(tx)
            .await
            .map(drop)
    }

    async fn comments(&self, tx: &TenantTx, rows: &[&content::Comment]) -> Result<()> {
        let inserted = InsertMany::<Comment, _>::new(rows)
            .column("id", |row| row.id.uuid())
            .column("author_id", |row| row.author.uuid())
            .column("project_id", |row| row.project.map(EntityId::uuid))
            .column("invoice_id", |row| row.invoice.map(EntityId::uuid))
            .column("product_id", |row| row.product.map(EntityId::uuid))
            .column("body", |row| row.body.clone())
            .column("created_at", |row| row.created_at)
            .run(tx);
        expect_written(inserted.await)
    }

    /// One round of edits: each project's description gets its next milestone.
    async fn edit_descriptions(
        &self,
        tx: &TenantTx,
        rows: &[&content::Project],
        round: u32,
    ) -> Result<()> {
        UpdateMany::<Project, _>::new(rows, |row| row.id.uuid())
            .column("description", |row| row.description(round))
            .run(tx)
            .await
            .map(drop)
    }
}

/// Correct demo data violates no constraint, so a rejection is a defect of the demo data.
fn expect_written<T>(written: WriteResult<T>) -> Result<()> {
    match written {
        Ok(_) => Ok(()),
        Err(WriteError::Failed(error)) => Err(error),
        Err(WriteError::Rejected(errors, _)) => Err(Error::Internal(
            format!("the demo data was rejected: {errors:?}").into(),
        )),
    }
}

//! Demo tenants: the same data for the same numbers, written as a tenant would write it.
//!
//! Tenants and their people are made by the admin plane. Everything in them goes through tenant
//! transactions as `palisade_app`, in bulk, by users whose roles allow it; so the audit log tells a
//! story that really happened.

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

/// How much to make.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Amounts {
    /// Tenants; those that are there already are left alone.
    #[arg(long, env = "PALISADE_DEMO_TENANTS", default_value_t = 3, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tenants: u32,
    /// Projects of each tenant.
    #[arg(long, env = "PALISADE_DEMO_PROJECTS", default_value_t = 24, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub projects: u32,
    /// Invoices of each project.
    #[arg(long, env = "PALISADE_DEMO_INVOICES", default_value_t = 6, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub invoices: u32,
    /// Entries of each project's audit log, or as many as making its content takes if that is more.
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

/// The slug of each of the first tenants, with the address of its owner.
pub fn owners(tenants: u32) -> impl Iterator<Item = (String, String)> {
    (0..tenants).map(|number| {
        let (tenant, members) = content::tenant(number);
        (tenant.slug, members[0].email.clone())
    })
}

/// Fills in the tenants that are missing, and answers how many those were. A tenant is filled before
/// the next is made; one that an interrupted run left half filled stays as it is.
pub async fn fill(
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
    let mut made = 0;
    for number in 0..amounts.tenants {
        let (tenant, members) = content::tenant(number);
        if admin.create_tenant(&tenant, &members).await? {
            made += 1;
            Writer {
                db,
                tenant: &tenant,
                members: &members,
            }
            .fill(number, amounts)
            .await?;
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(made)
}

/// Most rows of one statement: it must end well within the role's statement timeout.
const CHUNK: usize = 2_000;

/// Writes one tenant's rows.
struct Writer<'t> {
    db: &'t TenantDb,
    tenant: &'t NewTenant,
    members: &'t [NewMember],
}

impl Writer<'_> {
    /// A transaction of one of the tenant's people.
    fn act_as(&self, member: &NewMember) -> TenantTx {
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

    fn somebody(&self, role: UserRole) -> &NewMember {
        self.members
            .iter()
            .find(|member| member.role == role)
            .unwrap_or(&self.members[0])
    }

    async fn fill(&self, number: u32, amounts: Amounts) -> Result<()> {
        let content = TenantContent::new(number, self.members, amounts);

        let tx = self.act_as(self.somebody(UserRole::Owner));
        self.organizations(&tx, &content).await?;
        self.products(&tx, &content).await?;
        for projects in content.projects.chunks(CHUNK) {
            self.projects(&tx, projects).await?;
        }
        tx.commit().await?;

        for invoices in content.invoices.chunks(CHUNK) {
            let tx = self.act_as(self.somebody(UserRole::Billing));
            self.invoices(&tx, invoices).await?;
            for lines in content.lines_of(invoices).chunks(CHUNK) {
                self.lines(&tx, lines).await?;
            }
            self.finish_invoices(&tx, invoices).await?;
            tx.commit().await?;
        }

        for (author, comments) in content.comments_by_author() {
            let tx = self.act_as(author);
            for comments in comments.chunks(CHUNK) {
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
            let editor = self.somebody(editors[round as usize % editors.len()]);
            let projects: Vec<_> = content
                .projects
                .iter()
                .filter(|project| round < project.edits)
                .collect();
            for projects in projects.chunks(CHUNK) {
                let tx = self.act_as(editor);
                self.edit(&tx, projects, round).await?;
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

    /// Issues the invoices that do not stay drafts, in order, then settles some of them. The database
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

    /// One round of progress: each description says how far its project is.
    async fn edit(&self, tx: &TenantTx, rows: &[&content::Project], round: u32) -> Result<()> {
        UpdateMany::<Project, _>::new(rows, |row| row.id.uuid())
            .column("description", |row| row.description(round))
            .run(tx)
            .await
            .map(drop)
    }
}

/// The demo data violates no constraint: a rejection is a defect of it.
fn expect_written<T>(written: WriteResult<T>) -> Result<()> {
    match written {
        Ok(_) => Ok(()),
        Err(WriteError::Failed(error)) => Err(error),
        Err(WriteError::Rejected(errors, _)) => Err(Error::Internal(
            format!("the demo data was rejected: {errors:?}").into(),
        )),
    }
}

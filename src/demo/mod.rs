//! Demo tenants: the same data for the same numbers, written as a tenant would write it.
//!
//! Tenants and their people are made by the admin plane. Everything in them goes through tenant
//! transactions as `palisade_app`, in bulk, by users whose roles allow it; so the audit log tells a
//! story that really happened.

mod content;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use uuid::Uuid;

use crate::{
    audit::sealing,
    auth::role::UserRole,
    db::{
        Operation, Purpose, TenantContext, TenantDb, TenantTx,
        admin_tx::{AdminDb, NewMember, NewTenant},
        bulk::Columns,
    },
    error::Result,
    graphql::enums::StoredEnum as _,
    ids::EntityId,
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
        let rows = &content.organizations;
        let mut columns = Columns::default();
        columns.of(rows, |row| row.id.uuid())?;
        columns.of(rows, |row| row.name.clone())?;
        columns.of(rows, |row| row.slug.clone())?;
        columns.of(rows, |row| row.created_at)?;
        columns
            .execute(
                tx,
                "insert into organizations (id, name, slug, created_at)
                 select * from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[])",
            )
            .await
            .map(drop)
    }

    async fn products(&self, tx: &TenantTx, content: &TenantContent<'_>) -> Result<()> {
        let rows = &content.products;
        let mut columns = Columns::default();
        columns.of(rows, |row| row.id.uuid())?;
        columns.of(rows, |row| row.asin.clone())?;
        columns.of(rows, |row| row.title.clone())?;
        columns.of(rows, |row| row.price_minor)?;
        columns.of(rows, |_| content.currency.to_owned())?;
        columns.of(rows, |row| row.created_at)?;
        columns
            .execute(
                tx,
                "insert into products (id, asin, title, price_minor, currency, created_at)
                 select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[],
                                      $6::timestamptz[])",
            )
            .await
            .map(drop)
    }

    async fn projects(&self, tx: &TenantTx, rows: &[content::Project]) -> Result<()> {
        let mut columns = Columns::default();
        columns.of(rows, |row| row.id.uuid())?;
        columns.of(rows, |row| row.organization.uuid())?;
        columns.of(rows, |row| row.owner.uuid())?;
        columns.of(rows, |row| row.name.clone())?;
        columns.of(rows, |row| row.status.as_str().to_owned())?;
        columns.of(rows, |row| row.due_on)?;
        columns.of(rows, |row| row.created_at)?;
        columns
            .execute(
                tx,
                "insert into projects (id, organization_id, owner_id, name, status, due_on, created_at)
                 select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[],
                                      $6::date[], $7::timestamptz[])",
            )
            .await
            .map(drop)
    }

    async fn invoices(&self, tx: &TenantTx, rows: &[content::Invoice]) -> Result<()> {
        let mut columns = Columns::default();
        columns.of(rows, |row| row.id.uuid())?;
        columns.of(rows, |row| row.organization.uuid())?;
        columns.of(rows, |row| row.project.uuid())?;
        columns.of(rows, |row| row.currency.to_owned())?;
        columns.of(rows, |row| row.created_at)?;
        columns
            .execute(
                tx,
                "insert into invoices (id, organization_id, project_id, currency, created_at)
                 select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[],
                                      $5::timestamptz[])",
            )
            .await
            .map(drop)
    }

    async fn lines(&self, tx: &TenantTx, rows: &[content::Line]) -> Result<()> {
        let mut columns = Columns::default();
        columns.of(rows, |row| row.id.uuid())?;
        columns.of(rows, |row| row.invoice.uuid())?;
        columns.of(rows, |row| row.product.uuid())?;
        columns.of(rows, |row| row.position)?;
        columns.of(rows, |row| row.description.clone())?;
        columns.of(rows, |row| row.quantity)?;
        columns.of(rows, |row| row.unit_price_minor)?;
        columns.of(rows, |row| row.currency.to_owned())?;
        columns.of(rows, |row| row.created_at)?;
        columns
            .execute(
                tx,
                "insert into invoice_line_items
                     (id, invoice_id, product_id, position, description, quantity, unit_price_minor,
                      amount_minor, tax_rate, currency, created_at)
                 select id, invoice_id, product_id, position, description, quantity,
                        unit_price_minor, quantity * unit_price_minor, 0.19, currency, created_at
                 from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[],
                             $6::bigint[], $7::bigint[], $8::text[], $9::timestamptz[])
                     as line (id, invoice_id, product_id, position, description, quantity,
                              unit_price_minor, currency, created_at)",
            )
            .await
            .map(drop)
    }

    /// Issues what is not to stay a draft, in order, then settles some of it. The database works out
    /// totals and numbers.
    async fn finish_invoices(&self, tx: &TenantTx, rows: &[content::Invoice]) -> Result<()> {
        let mut columns = Columns::default();
        columns.of(rows, |row| row.id.uuid())?;
        columns.of(rows, |row| row.issued_on)?;
        columns
            .execute(
                tx,
                "update invoices
                 set status = case when done.issued_on is null then 'DRAFT' else 'OPEN' end,
                     issued_on = done.issued_on
                 from unnest($1::uuid[], $2::date[]) as done (id, issued_on)
                 where invoices.id = done.id",
            )
            .await?;
        let settled: Vec<_> = rows.iter().filter(|row| row.is_settled()).collect();
        let mut columns = Columns::default();
        columns.of(&settled, |row| row.id.uuid())?;
        columns.of(&settled, |row| row.status.as_str().to_owned())?;
        columns
            .execute(
                tx,
                "update invoices
                 set status = done.status
                 from unnest($1::uuid[], $2::text[]) as done (id, status)
                 where invoices.id = done.id",
            )
            .await
            .map(drop)
    }

    async fn comments(&self, tx: &TenantTx, rows: &[&content::Comment]) -> Result<()> {
        let mut columns = Columns::default();
        columns.of(rows, |row| row.id.uuid())?;
        columns.of(rows, |row| row.author.uuid())?;
        columns.of(rows, |row| row.project.map(EntityId::uuid))?;
        columns.of(rows, |row| row.invoice.map(EntityId::uuid))?;
        columns.of(rows, |row| row.product.map(EntityId::uuid))?;
        columns.of(rows, |row| row.body.clone())?;
        columns.of(rows, |row| row.created_at)?;
        columns
            .execute(
                tx,
                "insert into comments
                     (id, author_id, project_id, invoice_id, product_id, body, created_at)
                 select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[],
                                      $6::text[], $7::timestamptz[])",
            )
            .await
            .map(drop)
    }

    /// One round of progress: every project's description says how far it is.
    async fn edit(&self, tx: &TenantTx, rows: &[&content::Project], round: u32) -> Result<()> {
        let mut columns = Columns::default();
        columns.of(rows, |row| row.id.uuid())?;
        columns.of(rows, |row| row.description(round))?;
        columns
            .execute(
                tx,
                "update projects set description = edited.description
                 from unnest($1::uuid[], $2::text[]) as edited (id, description)
                 where projects.id = edited.id",
            )
            .await
            .map(drop)
    }
}

//! Demo tenants. The same amounts always give the same data.
//!
//! `palisade_admin` creates the tenants and their users. All other rows are written in bulk by tenant
//! transactions as `palisade_app`, each by a user whose role allows it. The audit log therefore
//! records real changes.

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
    /// Number of audit log entries per project. It is higher if the content alone needs more entries.
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

/// Creates the tenants that do not exist yet, and returns their number. A tenant is complete before the
/// next one is created. If a run is interrupted, the next run does not complete its last tenant.
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
        if admin.create_tenant(&tenant, &members).await? {
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

/// The largest number of rows in one statement. It must run well within the role's statement timeout.
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

    /// Issues the invoices that do not stay drafts, in order, then marks some as paid or void. The
    /// database computes totals and numbers.
    async fn finish_invoices(&self, tx: &TenantTx, rows: &[content::Invoice]) -> Result<()> {
        let mut columns = Columns::default();
        columns.of(rows, |row| row.id.uuid())?;
        columns.of(rows, |row| row.issued_on)?;
        columns
            .execute(
                tx,
                "update invoices
                 set status = case when issued.issued_on is null then 'DRAFT' else 'OPEN' end,
                     issued_on = issued.issued_on
                 from unnest($1::uuid[], $2::date[]) as issued (id, issued_on)
                 where invoices.id = issued.id",
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
                 set status = settled.status
                 from unnest($1::uuid[], $2::text[]) as settled (id, status)
                 where invoices.id = settled.id",
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

    /// One round of edits: each project's description gets its next milestone.
    async fn edit_descriptions(
        &self,
        tx: &TenantTx,
        rows: &[&content::Project],
        round: u32,
    ) -> Result<()> {
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

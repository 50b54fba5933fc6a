//! Rows in the tables of a tenant.

use palisade::ids::{EntityId as _, OrganizationId};
use sqlx::Connection as _;
use uuid::Uuid;

use super::tenant::Tenant;

impl Tenant {
    /// An organization, `projects` projects in it, each with `invoices` invoices of two lines, and one
    /// comment on each project. Every string contains the tenant's slug, as a canary.
    pub async fn seed(&self, projects: i32, invoices: i32) -> Seed {
        let mut sql = self.begin().await;
        let mut tx = sql.0.begin().await.unwrap();
        let organization = OrganizationId::generate();
        let owner = self.owner().user;
        sqlx::query("insert into organizations (id, name, slug) values ($1, $2, $3)")
            .bind(organization)
            .bind(format!("Organization {}", self.slug))
            .bind(&self.slug)
            .execute(&mut *tx)
            .await
            .unwrap();
        let product: Uuid = sqlx::query_scalar(
            "insert into products (id, asin, title, price_minor, currency)
             values (app.uuid_v7(), 'B000000001', $1, 1999, 'EUR') returning id",
        )
        .bind(format!("Product {}", self.slug))
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        let project_ids: Vec<Uuid> = sqlx::query_scalar(
            "insert into projects (id, organization_id, owner_id, name)
             select app.uuid_v7(), $1, $2, 'Project ' || n || ' ' || $3
             from generate_series(1, $4) n returning id",
        )
        .bind(organization)
        .bind(owner)
        .bind(&self.slug)
        .bind(projects)
        .fetch_all(&mut *tx)
        .await
        .unwrap();
        let invoice_ids: Vec<Uuid> = sqlx::query_scalar(
            "insert into invoices (id, organization_id, project_id, currency)
             select app.uuid_v7(), $1, p, 'EUR'
             from unnest($2::uuid[]) p, generate_series(1, $3) returning id",
        )
        .bind(organization)
        .bind(&project_ids)
        .bind(invoices)
        .fetch_all(&mut *tx)
        .await
        .unwrap();
        sqlx::query(
            "insert into invoice_line_items (id, invoice_id, product_id, position, description,
                                             quantity, unit_price_minor, amount_minor, currency)
             select app.uuid_v7(), i, $1, n, 'Line ' || $2, 1, 1999, 1999, 'EUR'
             from unnest($3::uuid[]) i, generate_series(1, 2) n",
        )
        .bind(product)
        .bind(&self.slug)
        .bind(&invoice_ids)
        .execute(&mut *tx)
        .await
        .unwrap();
        // The database computes the totals when a draft changes.
        sqlx::query("update invoices set currency = currency")
            .execute(&mut *tx)
            .await
            .unwrap();
        // Seals, their entries and, after the comments, rows that wait for a seal.
        sqlx::query("select app.seal_audit_log()")
            .execute(&mut *tx)
            .await
            .unwrap();
        sqlx::query(
            "insert into comments (id, author_id, project_id, body)
             select app.uuid_v7(), $1, p, 'Comment ' || $2 from unnest($3::uuid[]) p",
        )
        .bind(owner)
        .bind(&self.slug)
        .bind(&project_ids)
        .execute(&mut *tx)
        .await
        .unwrap();
        tx.commit().await.unwrap();
        Seed {
            organization: organization.uuid(),
            projects: project_ids,
            invoices: invoice_ids,
        }
    }
}

/// The ids of the rows of [`Tenant::seed`].
pub struct Seed {
    pub organization: Uuid,
    pub projects: Vec<Uuid>,
    pub invoices: Vec<Uuid>,
}

//! The content of the demo tenants, computed from the tenant's number alone.

use std::collections::HashMap;

use chrono::{DateTime, Days, NaiveDate, Utc};
use fastrand::Rng;
use uuid::{Builder, Uuid};

use super::Amounts;
use crate::{
    auth::role::UserRole,
    db::admin_tx::{NewMember, NewTenant},
    ids::{CommentId, InvoiceId, InvoiceLineItemId, OrganizationId, ProductId, ProjectId, UserId},
    invoices::InvoiceStatus,
    projects::ProjectStatus,
};

/// The first timestamp of every demo tenant: 1 January 2026, 08:00 UTC, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_767_254_400_000;

const COMPANIES: [&str; 12] = [
    "Acme",
    "Globex",
    "Initech",
    "Umbrella",
    "Hooli",
    "Stark",
    "Wayne",
    "Wonka",
    "Tyrell",
    "Cyberdyne",
    "Soylent",
    "Aperture",
];
const CLIENTS: [&str; 10] = [
    "Northwind",
    "Contoso",
    "Fabrikam",
    "Litware",
    "Proseware",
    "Tailspin",
    "Woodgrove",
    "Adatum",
    "Lucerne",
    "Humongous",
];
const WORKS: [&str; 12] = [
    "Website relaunch",
    "Warehouse automation",
    "Annual audit",
    "Mobile app",
    "Data migration",
    "Brand refresh",
    "Security review",
    "Customer portal",
    "Payroll rollout",
    "Office move",
    "Supplier onboarding",
    "Energy report",
];
const GOODS: [&str; 8] = [
    "Consulting hour",
    "Design day",
    "Support plan",
    "Hosting month",
    "Training seat",
    "Licence",
    "Site inspection",
    "Workshop",
];
const REMARKS: [&str; 6] = [
    "Looks good to me.",
    "Can we move the deadline by a week?",
    "The client signed off this morning.",
    "Waiting for the numbers from finance.",
    "Please double-check the totals.",
    "Shipped.",
];
/// The first name, last name and role of each tenant's users. The owner comes first.
const PEOPLE: [(&str, &str, UserRole); 6] = [
    ("Olivia", "Owens", UserRole::Owner),
    ("Adam", "Adler", UserRole::Admin),
    ("Mia", "Moreno", UserRole::Member),
    ("Ben", "Bauer", UserRole::Billing),
    ("Vera", "Visser", UserRole::Viewer),
    ("Max", "Meyer", UserRole::Member),
];
/// A user of every demo tenant, so that one identity has several memberships.
const CONSULTANT: (&str, &str, UserRole) = ("Sam", "Rivers", UserRole::Admin);
const LINES_PER_INVOICE: i32 = 2;

/// Generates ids, timestamps and choices that depend only on the seed.
struct Generator {
    rng: Rng,
    clock_ms: u64,
}

impl Generator {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            clock_ms: EPOCH_MS + seed % 1_000,
        }
    }

    /// A UUID of version 7 for the current time of the generator.
    fn uuid(&mut self) -> Uuid {
        let mut random = [0; 10];
        self.rng.fill(&mut random);
        Builder::from_unix_timestamp_millis(self.clock_ms, &random).into_uuid()
    }

    /// Advances the clock by a random time of at most this many minutes, and returns the new time.
    fn advance(&mut self, minutes: u64) -> DateTime<Utc> {
        self.clock_ms += self.rng.u64(1..=minutes * 60_000);
        self.now()
    }

    fn now(&self) -> DateTime<Utc> {
        let ms = i64::try_from(self.clock_ms).expect("BUG: a timestamp outside the calendar");
        DateTime::from_timestamp_millis(ms).expect("BUG: a timestamp outside the calendar")
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.rng.usize(0..items.len())]
    }
}

/// The tenant with this number, and its users.
pub fn tenant(number: u32) -> (NewTenant, Vec<NewMember>) {
    let mut generator = Generator::new(u64::from(number));
    let company = COMPANIES[number as usize % COMPANIES.len()];
    let round = number as usize / COMPANIES.len();
    let name = if round == 0 {
        company.to_owned()
    } else {
        format!("{company} {}", round + 1)
    };
    let slug = name.to_lowercase().replace(' ', "-");
    let tenant = NewTenant {
        id: generator.uuid().into(),
        name,
        plan: generator.one_of(&["FREE", "TEAM", "BUSINESS"]).to_owned(),
        slug: slug.clone(),
    };
    let mut members: Vec<NewMember> = PEOPLE
        .iter()
        .map(|(first, last, role)| NewMember {
            user: generator.uuid().into(),
            identity: generator.uuid(),
            email: format!("{}@{slug}.example", first.to_lowercase()),
            display_name: format!("{first} {last}"),
            role: *role,
        })
        .collect();
    let (first, last, role) = CONSULTANT;
    members.push(NewMember {
        user: generator.uuid().into(),
        identity: Generator::new(u64::MAX).uuid(),
        email: format!("{}@consulting.example", first.to_lowercase()),
        display_name: format!("{first} {last}"),
        role,
    });
    (tenant, members)
}

pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    pub slug: String,
    pub created_at: DateTime<Utc>,
}

pub struct Product {
    pub id: ProductId,
    pub asin: String,
    pub title: String,
    pub price_minor: i64,
    pub created_at: DateTime<Utc>,
}

pub struct Project {
    pub id: ProjectId,
    pub organization: OrganizationId,
    pub owner: UserId,
    pub name: String,
    pub status: ProjectStatus,
    pub due_on: Option<NaiveDate>,
    pub created_at: DateTime<Utc>,
    /// The number of edits after which the project's audit log has the requested length.
    pub edits: u32,
}

impl Project {
    /// The description after this round of edits.
    pub fn description(&self, round: u32) -> String {
        format!("{}. Milestone {} reached.", self.name, round + 1)
    }
}

pub struct Invoice {
    pub id: InvoiceId,
    pub organization: OrganizationId,
    pub project: ProjectId,
    pub status: InvoiceStatus,
    pub currency: &'static str,
    pub issued_on: Option<NaiveDate>,
    pub created_at: DateTime<Utc>,
}

impl Invoice {
    /// Whether the invoice was issued and is no longer open.
    pub fn is_settled(&self) -> bool {
        !matches!(self.status, InvoiceStatus::Draft | InvoiceStatus::Open)
    }
}

#[derive(Clone)]
pub struct Line {
    pub id: InvoiceLineItemId,
    pub invoice: InvoiceId,
    pub product: ProductId,
    pub position: i32,
    pub description: String,
    pub quantity: i64,
    pub unit_price_minor: i64,
    pub currency: &'static str,
    pub created_at: DateTime<Utc>,
}

pub struct Comment {
    pub id: CommentId,
    pub author: UserId,
    pub project: Option<ProjectId>,
    pub invoice: Option<InvoiceId>,
    pub product: Option<ProductId>,
    pub body: String,
    pub created_at: DateTime<Utc>,
}

/// All rows of a tenant.
pub struct TenantContent<'t> {
    members: &'t [NewMember],
    pub currency: &'static str,
    pub organizations: Vec<Organization>,
    pub products: Vec<Product>,
    pub projects: Vec<Project>,
    pub invoices: Vec<Invoice>,
    lines: Vec<Line>,
    comments: Vec<Comment>,
}

impl<'t> TenantContent<'t> {
    pub fn new(number: u32, members: &'t [NewMember], amounts: Amounts) -> Self {
        // Not the seed of `tenant`: it would generate the same ids again.
        let mut generator = Generator::new(u64::from(number) + (1 << 32));
        let currency = generator.one_of(&["EUR", "USD", "GBP", "JPY", "KWD"]);
        let organizations = organizations(&mut generator);
        let products = products(&mut generator);
        let projects = projects(&mut generator, amounts.projects, &organizations, members);
        let mut content = Self {
            members,
            currency,
            organizations,
            products,
            projects,
            invoices: Vec::new(),
            lines: Vec::new(),
            comments: Vec::new(),
        };
        content.add_invoices(&mut generator, amounts.invoices);
        content.add_comments(&mut generator);
        content.plan_edits(amounts);
        content
    }

    fn add_invoices(&mut self, generator: &mut Generator, per_project: u32) {
        for project in &self.projects {
            for _ in 0..per_project {
                let created_at = generator.advance(30);
                let id = InvoiceId::from(generator.uuid());
                for position in 1..=LINES_PER_INVOICE {
                    let product = &self.products[generator.rng.usize(0..self.products.len())];
                    let quantity = generator.rng.i64(1..=20);
                    self.lines.push(Line {
                        id: generator.uuid().into(),
                        invoice: id,
                        product: product.id,
                        position,
                        description: format!("{} for {}", product.title, project.name),
                        quantity,
                        unit_price_minor: product.price_minor,
                        currency: self.currency,
                        created_at,
                    });
                }
                let status = generator.one_of(&[
                    InvoiceStatus::Paid,
                    InvoiceStatus::Paid,
                    InvoiceStatus::Open,
                    InvoiceStatus::Draft,
                    InvoiceStatus::Void,
                ]);
                let is_issued = status != InvoiceStatus::Draft;
                self.invoices.push(Invoice {
                    id,
                    organization: project.organization,
                    project: project.id,
                    status,
                    currency: self.currency,
                    issued_on: is_issued.then(|| created_at.date_naive()),
                    created_at,
                });
            }
        }
    }

    fn add_comments(&mut self, generator: &mut Generator) {
        let mut comment = |project, invoice, product| {
            let author = &self.members[generator.rng.usize(0..self.members.len())];
            // Viewers cannot write comments.
            let author = if author.role == UserRole::Viewer {
                &self.members[0]
            } else {
                author
            };
            let created_at = generator.advance(20);
            self.comments.push(Comment {
                id: generator.uuid().into(),
                author: author.user,
                project,
                invoice,
                product,
                body: generator.one_of(&REMARKS).to_owned(),
                created_at,
            });
        };
        for project in &self.projects {
            comment(Some(project.id), None, None);
        }
        for invoice in self.invoices.iter().step_by(10) {
            comment(None, Some(invoice.id), None);
        }
        for product in &self.products {
            comment(None, None, Some(product.id));
        }
    }

    /// Computes the number of edits of each project: the requested number of entries in its audit log,
    /// minus the entries that its content creates. The project creates one entry, and so does its comment.
    /// Each invoice creates one when it is inserted, one when it gets its total or is issued, one per line,
    /// one if it becomes paid or void, and one if it has a comment.
    fn plan_edits(&mut self, amounts: Amounts) {
        let per_invoice =
            2 + u32::try_from(LINES_PER_INVOICE).expect("BUG: a negative number of lines");
        let common = 2 + amounts.invoices * per_invoice;
        let project_of: HashMap<InvoiceId, ProjectId> = self
            .invoices
            .iter()
            .map(|invoice| (invoice.id, invoice.project))
            .collect();
        let mut others: HashMap<ProjectId, u32> = HashMap::new();
        for invoice in self.comments.iter().filter_map(|comment| comment.invoice) {
            *others.entry(project_of[&invoice]).or_default() += 1;
        }
        for invoice in self.invoices.iter().filter(|invoice| invoice.is_settled()) {
            *others.entry(invoice.project).or_default() += 1;
        }
        for project in &mut self.projects {
            let others = others.get(&project.id).copied().unwrap_or_default();
            project.edits = amounts.audit_logs.saturating_sub(common + others);
        }
    }

    /// The lines of these invoices.
    pub fn lines_of(&self, invoices: &[Invoice]) -> Vec<Line> {
        let ids: std::collections::HashSet<InvoiceId> = invoices.iter().map(|row| row.id).collect();
        self.lines
            .iter()
            .filter(|line| ids.contains(&line.invoice))
            .cloned()
            .collect()
    }

    /// The comments of each author. Only the author can write a comment.
    pub fn comments_by_author(&self) -> Vec<(&'t NewMember, Vec<&Comment>)> {
        let comments_of = |member: &NewMember| {
            self.comments
                .iter()
                .filter(|comment| comment.author == member.user)
                .collect::<Vec<_>>()
        };
        self.members
            .iter()
            .map(|member| (member, comments_of(member)))
            .filter(|(_, comments)| !comments.is_empty())
            .collect()
    }
}

fn organizations(generator: &mut Generator) -> Vec<Organization> {
    CLIENTS
        .iter()
        .map(|name| Organization {
            created_at: generator.advance(60),
            id: generator.uuid().into(),
            name: (*name).to_owned(),
            slug: name.to_lowercase(),
        })
        .collect()
}

fn products(generator: &mut Generator) -> Vec<Product> {
    (0..20)
        .map(|number| {
            let title = GOODS[number % GOODS.len()];
            Product {
                created_at: generator.advance(60),
                id: generator.uuid().into(),
                asin: format!("B{:09}", number * 7_919 + 1),
                title: format!(
                    "{title} {}",
                    ["basic", "plus", "premium"][number / GOODS.len()]
                ),
                price_minor: generator.rng.i64(100..=90_000),
            }
        })
        .collect()
}

fn projects(
    generator: &mut Generator,
    amount: u32,
    organizations: &[Organization],
    members: &[NewMember],
) -> Vec<Project> {
    (0..amount)
        .map(|number| {
            let created_at = generator.advance(240);
            let organization = &organizations[generator.rng.usize(0..organizations.len())];
            let work = generator.one_of(&WORKS);
            let days = generator.rng.u64(10..200);
            Project {
                id: generator.uuid().into(),
                organization: organization.id,
                owner: members[generator.rng.usize(0..members.len())].user,
                name: format!("{work} for {} #{}", organization.name, number + 1),
                status: generator.one_of(&[
                    ProjectStatus::Planned,
                    ProjectStatus::Active,
                    ProjectStatus::Active,
                    ProjectStatus::OnHold,
                    ProjectStatus::Completed,
                ]),
                due_on: generator
                    .rng
                    .bool()
                    .then(|| created_at.date_naive() + Days::new(days)),
                created_at,
                edits: 0,
            }
        })
        .collect()
}

//! What changes projects.

use std::collections::HashSet;

use async_graphql::{Context, InputObject, MaybeUndefined, SimpleObject};
use uuid::Uuid;

use super::{Project, ProjectStatus};
use crate::{
    auth::role::UserRole,
    comments::Comment,
    db::{
        TenantTx,
        page::{Comparison, Filter, Value},
        write::{
            Insert, Update, Writable, Written, delete_many, delete_one, delete_where, referred_to,
        },
    },
    error::{Error, Result},
    graphql::{
        batch::{self, Batch, Row, Terms},
        context::ContextExt as _,
        enums::StoredEnum as _,
        mutation::{Outcome, Write as _, payload, targets},
        object::{Object, Objects},
        relations::RootMutations,
        scalars::Date,
    },
    ids::{EntityId as _, OrganizationId, ProjectId, UserId},
    invoices::Invoice,
    user_error::{Checks, Refusal, Rule, UserError, UserErrorCode},
};

/// Most characters of a name.
const NAME: usize = 120;
/// Most characters of a description.
const DESCRIPTION: usize = 10_000;
/// Most projects of one deletion.
const MAX_DELETED: usize = 100;

const HAS_INVOICES: &str = "has invoices: archive it instead";
const HAS_COMMENTS: &str = "has comments of others, which you may not delete: archive it instead";

impl Writable for Project {
    const RULES: &'static [Rule] = &[
        Rule::new(
            "projects_organization_fkey",
            UserErrorCode::NotFound,
            "organizationId",
            "Organization not found",
        ),
        Rule::new(
            "projects_owner_fkey",
            UserErrorCode::NotFound,
            "ownerId",
            "User not found",
        ),
        Rule::new(
            "projects_name_length",
            UserErrorCode::Invalid,
            "name",
            "has 1 to 120 characters",
        ),
        Rule::new(
            "projects_description_length",
            UserErrorCode::TooLong,
            "description",
            "is longer than 10000 characters",
        ),
    ];
    const REFERRERS: &'static [Rule] = &[
        Rule::new(
            "invoices_project_fkey",
            UserErrorCode::InvalidState,
            "id",
            HAS_INVOICES,
        ),
        Rule::new(
            "comments_project_fkey",
            UserErrorCode::InvalidState,
            "id",
            HAS_COMMENTS,
        ),
    ];
}

/// What a new project is made of.
#[derive(Debug, InputObject)]
pub struct CreateProjectInput {
    /// The name for people; 1 to 120 characters.
    pub name: String,
    /// The organization that it is for.
    pub organization_id: OrganizationId,
    /// The user who answers for it; the caller if not given.
    pub owner_id: Option<UserId>,
    /// What the work is; at most 10,000 characters.
    pub description: Option<String>,
    /// How far it is; `PLANNED` if not given. Not `ARCHIVED`: see `archiveProject`.
    pub status: Option<ProjectStatus>,
    /// When it is due.
    pub due_on: Option<Date>,
}

/// What is to change about a project. A field that is left out stays as it is, and null clears it.
#[derive(Debug, InputObject)]
pub struct UpdateProjectInput {
    /// Its id.
    pub id: ProjectId,
    /// Only if it still has this version; otherwise CONFLICT.
    pub if_version: Option<i32>,
    /// The name for people; 1 to 120 characters. Cannot be cleared.
    pub name: MaybeUndefined<String>,
    /// The organization that it is for. Cannot be cleared.
    pub organization_id: MaybeUndefined<OrganizationId>,
    /// The user who answers for it. Cannot be cleared.
    pub owner_id: MaybeUndefined<UserId>,
    /// What the work is; at most 10,000 characters.
    pub description: MaybeUndefined<String>,
    /// How far it is. Cannot be cleared. Neither to nor from `ARCHIVED`: see `archiveProject` and
    /// `unarchiveProject`.
    pub status: MaybeUndefined<ProjectStatus>,
    /// When it is due.
    pub due_on: MaybeUndefined<Date>,
}

targets! {
    /// The project to archive.
    ArchiveProjectInput(ProjectId)
    /// The project to take out of the archive.
    UnarchiveProjectInput(ProjectId)
    /// The project to delete.
    DeleteProjectInput(ProjectId)
}

payload! {
    /// What came of `createProject`.
    CreateProjectPayload { project: Project }
    /// What came of `updateProject`.
    UpdateProjectPayload { project: Project }
    /// What came of `archiveProject`.
    ArchiveProjectPayload { project: Project }
    /// What came of `unarchiveProject`.
    UnarchiveProjectPayload { project: Project }
    /// What came of `deleteProject`: the project as it was.
    DeleteProjectPayload { project: Project }
}

/// The mutations of this slice.
#[derive(Debug, Default)]
pub struct ProjectMutations;

impl RootMutations for Project {
    type Mutations = ProjectMutations;
}

#[async_graphql::Object]
impl ProjectMutations {
    /// Makes a project. For all but viewers.
    async fn create_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project.")] input: CreateProjectInput,
    ) -> Result<Object<CreateProjectPayload>> {
        let caller = ctx.principal().user;
        ctx.write(create(ctx.tx(), input, caller)).await
    }

    /// Changes a project. For all but viewers.
    async fn update_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which project, and what is to change.")] input: UpdateProjectInput,
    ) -> Result<Object<UpdateProjectPayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Puts a project into the archive. For all but viewers.
    async fn archive_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which project.")] input: ArchiveProjectInput,
    ) -> Result<Object<ArchiveProjectPayload>> {
        let archive = Update::<Project>::new(input.id, input.if_version)
            .compute("archived_from", "status", Vec::new())
            .set("status", ProjectStatus::Archived.as_str())
            .unless("status", "ARCHIVED", "is in the archive already");
        ctx.write(archive.run(ctx.tx())).await
    }

    /// Takes a project out of the archive; it has the status again that it had before. For all but
    /// viewers.
    async fn unarchive_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which project.")] input: UnarchiveProjectInput,
    ) -> Result<Object<UnarchiveProjectPayload>> {
        let unarchive = Update::<Project>::new(input.id, input.if_version)
            // Those that were archived in another way have no former status.
            .compute("status", "coalesce(archived_from, 'ACTIVE')", Vec::new())
            .set("archived_from", None::<String>)
            .only_if("status", "ARCHIVED", "is not in the archive");
        ctx.write(unarchive.run(ctx.tx())).await
    }

    /// Deletes a project and its comments. For all but viewers; only owners and admins delete one with
    /// comments of others, and nobody one with invoices.
    async fn delete_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which project.")] input: DeleteProjectInput,
    ) -> Result<Object<DeleteProjectPayload>> {
        ctx.write(delete(ctx.tx(), input)).await
    }

    /// Deletes up to 100 projects and their comments, as `deleteProject` does each.
    async fn delete_projects(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which projects.")] input: DeleteProjectsInput,
    ) -> Result<Object<DeleteProjectsPayload>> {
        ctx.write(delete_all(ctx, input)).await
    }
}

async fn create(tx: &TenantTx, input: CreateProjectInput, caller: UserId) -> Written<Project> {
    let mut checks = Checks::new();
    checks.text("name", &input.name, NAME);
    checks.optional_text("description", input.description.as_ref(), DESCRIPTION);
    let status = input.status.unwrap_or(ProjectStatus::Planned);
    not_archived(&mut checks, status);
    checks.done()?;
    Insert::<Project>::new(ProjectId::generate())
        .set("name", input.name)
        .set("organization_id", input.organization_id.uuid())
        .set("owner_id", input.owner_id.unwrap_or(caller).uuid())
        .set("description", input.description)
        .set("status", status.as_str())
        .set("due_on", input.due_on.map(|date| date.0))
        .run(tx)
        .await
}

async fn update(tx: &TenantTx, input: UpdateProjectInput) -> Written<Project> {
    let mut checks = Checks::new();
    checks.changed_text("name", &input.name, NAME);
    checks.change("organizationId", &input.organization_id);
    checks.change("ownerId", &input.owner_id);
    checks.optional_text("description", input.description.value(), DESCRIPTION);
    let status = checks.change("status", &input.status).copied();
    if let Some(status) = status {
        not_archived(&mut checks, status);
    }
    checks.done()?;
    let mut update = Update::<Project>::new(input.id, input.if_version)
        .change("name", input.name)
        .change(
            "organization_id",
            input.organization_id.map_value(OrganizationId::uuid),
        )
        .change("owner_id", input.owner_id.map_value(UserId::uuid))
        .change_or_clear("description", input.description)
        .change_or_clear("due_on", input.due_on.map_value(|date| date.0));
    if let Some(status) = status {
        update = update.set("status", status.as_str()).unless(
            "status",
            "ARCHIVED",
            "is in the archive: take it out first",
        );
    }
    update.run(tx).await
}

fn not_archived(checks: &mut Checks, status: ProjectStatus) {
    checks.require(
        status != ProjectStatus::Archived,
        UserErrorCode::Invalid,
        "status",
        "a project is archived by archiveProject",
    );
}

async fn delete(tx: &TenantTx, input: DeleteProjectInput) -> Written<Project> {
    delete_where::<Comment>(tx, "project_id", vec![input.id.uuid()]).await?;
    delete_one(tx, input.id, input.if_version).await
}

/// Which projects to delete.
#[derive(Debug, InputObject)]
pub struct DeleteProjectsInput {
    /// Their ids, at most 100.
    pub ids: Vec<ProjectId>,
    /// All or none: if one cannot be deleted, none is. Otherwise those are that can be.
    #[graphql(default = true)]
    pub atomic: bool,
    /// A key of the client's choice, 1 to 255 characters: the same input with the same key within 24
    /// hours is answered and not done again.
    pub idempotency_key: Option<String>,
}

/// What came of `deleteProjects`.
#[derive(Debug, SimpleObject)]
pub struct DeleteProjectsPayload {
    /// What came of each project, in the order of the ids.
    pub results: Objects<DeleteProjectsResult>,
    /// Why nothing was deleted; empty if something was, or all that was not has its own errors.
    pub user_errors: Objects<UserError>,
}

/// What came of one project.
#[derive(Debug, SimpleObject)]
pub struct DeleteProjectsResult {
    /// Its place in the list of ids, from 0.
    pub index: i32,
    /// The id of the project that was deleted; null if it was not.
    pub deleted_id: Option<ProjectId>,
    /// Why it was not deleted.
    pub user_errors: Objects<UserError>,
}

impl From<Outcome<Batch>> for DeleteProjectsPayload {
    fn from(outcome: Outcome<Batch>) -> Self {
        let (results, user_errors) = batch::results(outcome, |index, row| DeleteProjectsResult {
            index,
            deleted_id: row.id.map(ProjectId::from),
            user_errors: row.user_errors.into_iter().collect(),
        });
        Self {
            results,
            user_errors,
        }
    }
}

async fn delete_all(ctx: &Context<'_>, input: DeleteProjectsInput) -> Written<Batch> {
    batch::check_size("ids", input.ids.len(), MAX_DELETED)?;
    let terms = Terms {
        list: "ids",
        atomic: input.atomic,
        key: input.idempotency_key.map(|key| batch::Key {
            mutation: "deleteProjects",
            key,
            content: batch::content(input.atomic, &input.ids),
        }),
    };
    // Boxed: the statements of a batch make for a large future.
    Box::pin(batch::run(ctx, terms, delete_each(ctx, &input.ids))).await
}

/// Deletes those that can be. The reasons against the others are asked for beforehand: a foreign key
/// would name the first one only.
async fn delete_each(ctx: &Context<'_>, ids: &[ProjectId]) -> Written<Batch> {
    let (tx, caller) = (ctx.tx(), ctx.principal());
    let uuids = |ids: &[ProjectId]| ids.iter().map(|id| id.uuid()).collect::<Vec<_>>();
    let everything = Filter::default();
    let there = referred_to::<Project>(tx, "id", uuids(ids), &everything).await?;
    // Whoever may delete none is told so by the database, as by `deleteProject`, and not what else
    // stands in the way.
    let billed = match caller.role {
        UserRole::Viewer => HashSet::new(),
        _ => referred_to::<Invoice>(tx, "project_id", uuids(ids), &everything).await?,
    };
    let discussed = match caller.role {
        UserRole::Owner | UserRole::Admin | UserRole::Viewer => HashSet::new(),
        UserRole::Member | UserRole::Billing => {
            let caller = Value::Uuid(caller.user.uuid());
            let of_others = Filter::Is("author_id", Comparison::Ne, caller);
            referred_to::<Comment>(tx, "project_id", uuids(ids), &of_others).await?
        }
    };

    let mut seen = HashSet::new();
    let mut rows: Vec<Row> = Vec::with_capacity(ids.len());
    let mut free = Vec::new();
    for id in ids {
        let uuid = id.uuid();
        rows.push(if !seen.insert(uuid) {
            Row::because(UserErrorCode::Invalid, "", "is named twice")
        } else if !there.contains(&uuid) {
            Row::because(UserErrorCode::NotFound, "", "Project not found")
        } else if billed.contains(&uuid) {
            Row::because(UserErrorCode::InvalidState, "", HAS_INVOICES)
        } else if discussed.contains(&uuid) {
            Row::because(UserErrorCode::InvalidState, "", HAS_COMMENTS)
        } else {
            free.push(*id);
            Row::written(uuid)
        });
    }
    delete_where::<Comment>(tx, "project_id", uuids(&free)).await?;
    let deleted = delete_many::<Project>(tx, &free)
        .await
        .map_err(Refusal::of)?;
    let deleted: HashSet<Uuid> = deleted.iter().map(|project| project.id.uuid()).collect();
    for row in &mut rows {
        if row.id.is_some_and(|id| !deleted.contains(&id)) {
            *row = Row::because(UserErrorCode::Forbidden, "", Error::Forbidden.to_string());
        }
    }
    Ok(Batch(rows))
}

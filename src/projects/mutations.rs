//! The mutations of projects.

use std::collections::HashSet;

use async_graphql::{Context, InputObject, MaybeUndefined, SimpleObject};
use uuid::Uuid;

use super::{Project, ProjectStatus};
use crate::{
    auth::role::UserRole,
    comments::Comment,
    db::{
        TenantTx,
        archive::{Archivable, archive, unarchive},
        filter::{Comparison, Filter, Value},
        write::{
            ConstraintRule, Insert, Update, Writable, WriteError, WriteResult, delete_many,
            delete_one, delete_where, referred_to,
        },
    },
    error::{Error, Result},
    graphql::{
        bulk::{self, BulkOptions, BulkPayload, BulkResult, BulkRow, BulkRowResult},
        checks::Checks,
        context::ContextExt as _,
        enums::StoredEnum as _,
        json::PlainFields,
        mutation::{Write as _, payload, targets},
        object::{Object, Objects},
        relations::RootMutations,
        scalars::Date,
    },
    ids::{EntityId as _, OrganizationId, ProjectId, UserId},
    invoices::Invoice,
    user_error::{UserError, UserErrorCode},
};

/// The maximum length of a display name in characters.
const MAX_NAME_LENGTH: usize = 120;
/// The maximum length of a description in characters.
const MAX_DESCRIPTION_LENGTH: usize = 10_000;

const HAS_INVOICES: &str = "has invoices: archive the project instead";
const HAS_COMMENTS: &str =
    "has comments of other users, which you may not delete: archive the project instead";

impl Writable for Project {
    const RULES: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "projects_organization_fkey",
            UserErrorCode::NotFound,
            "organizationId",
            "Organization not found",
        ),
        ConstraintRule::new(
            "projects_owner_fkey",
            UserErrorCode::NotFound,
            "ownerId",
            "User not found",
        ),
        ConstraintRule::new(
            "projects_name_length",
            UserErrorCode::Invalid,
            "name",
            "must have 1 to 120 characters",
        ),
        ConstraintRule::new(
            "projects_description_length",
            UserErrorCode::TooLong,
            "description",
            "must have at most 10000 characters",
        ),
    ];
    const REFERRERS: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "invoices_project_fkey",
            UserErrorCode::InvalidState,
            "id",
            HAS_INVOICES,
        ),
        ConstraintRule::new(
            "comments_project_fkey",
            UserErrorCode::InvalidState,
            "id",
            HAS_COMMENTS,
        ),
    ];
}

impl Archivable for Project {
    const FORMER_STATUS: Option<&'static str> = Some("archived_from");
}

/// The input of the `createProject` mutation.
#[derive(Debug, InputObject)]
pub struct CreateProjectInput {
    /// The display name; 1 to 120 characters.
    pub name: String,
    /// The ID of the organization for which the work is done.
    pub organization_id: OrganizationId,
    /// The ID of the owner: the user responsible for the project. The caller by default.
    pub owner_id: Option<UserId>,
    /// A description of the work, as plain text; at most 10,000 characters.
    pub description: Option<String>,
    /// The status; `PLANNED` by default. Cannot be `ARCHIVED`: use `archiveProject`.
    pub status: Option<ProjectStatus>,
    /// The due date of the project.
    pub due_on: Option<Date>,
}

/// The input of the `updateProject` mutation. A field that is left out keeps its value; null clears it.
#[derive(Debug, InputObject)]
pub struct UpdateProjectInput {
    /// The ID of the project.
    pub id: ProjectId,
    /// The version that the client last read. If the project has changed since, nothing is written and the error
    /// CONFLICT is returned.
    pub if_version: Option<i32>,
    /// The display name; 1 to 120 characters. Cannot be cleared.
    pub name: MaybeUndefined<String>,
    /// The ID of the organization for which the work is done. Cannot be cleared.
    pub organization_id: MaybeUndefined<OrganizationId>,
    /// The ID of the owner: the user responsible for the project. Cannot be cleared.
    pub owner_id: MaybeUndefined<UserId>,
    /// A description of the work, as plain text; at most 10,000 characters.
    pub description: MaybeUndefined<String>,
    /// The status. Cannot be cleared. Cannot be set to or changed from `ARCHIVED`: use `archiveProject` and
    /// `unarchiveProject`.
    pub status: MaybeUndefined<ProjectStatus>,
    /// The due date of the project.
    pub due_on: MaybeUndefined<Date>,
}

targets! {
    /// The input of the `archiveProject` mutation.
    ArchiveProjectInput(ProjectId)
    /// The input of the `unarchiveProject` mutation.
    UnarchiveProjectInput(ProjectId)
    /// The input of the `deleteProject` mutation.
    DeleteProjectInput(ProjectId)
}

payload! {
    /// The payload of the `createProject` mutation.
    CreateProjectPayload { project: Project }
    /// The payload of the `updateProject` mutation.
    UpdateProjectPayload { project: Project }
    /// The payload of the `archiveProject` mutation.
    ArchiveProjectPayload { project: Project }
    /// The payload of the `unarchiveProject` mutation.
    UnarchiveProjectPayload { project: Project }
    /// The payload of the `deleteProject` mutation.
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
    /// Creates a project. Every role except viewer may do so.
    async fn create_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project to create.")] input: CreateProjectInput,
    ) -> Result<Object<CreateProjectPayload>> {
        let caller = ctx.principal().user;
        ctx.write(create(ctx.tx(), input, caller)).await
    }

    /// Updates a project. Every role except viewer may do so.
    async fn update_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project and the fields to change.")] input: UpdateProjectInput,
    ) -> Result<Object<UpdateProjectPayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Archives a project: sets its status to `ARCHIVED`. Every role except viewer may do so.
    async fn archive_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project to archive.")] input: ArchiveProjectInput,
    ) -> Result<Object<ArchiveProjectPayload>> {
        ctx.write(archive::<Project>(ctx.tx(), input.id, input.if_version))
            .await
    }

    /// Restores an archived project: sets its status to the previous one. Every role except viewer may do so.
    async fn unarchive_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project to restore.")] input: UnarchiveProjectInput,
    ) -> Result<Object<UnarchiveProjectPayload>> {
        ctx.write(unarchive::<Project>(ctx.tx(), input.id, input.if_version))
            .await
    }

    /// Deletes a project and its comments. Every role except viewer may do so; only owners and admins may delete a
    /// project that has comments of other users. A project with invoices cannot be deleted.
    async fn delete_project(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The project to delete.")] input: DeleteProjectInput,
    ) -> Result<Object<DeleteProjectPayload>> {
        ctx.write(delete(ctx.tx(), input)).await
    }

    /// Deletes up to 100 projects and their comments, each under the conditions of `deleteProject`.
    async fn delete_projects(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The projects to delete.")] input: DeleteProjectsInput,
    ) -> Result<Object<DeleteProjectsPayload>> {
        let DeleteProjectsInput { ids, options } = input;
        let work = delete_each(ctx, &ids);
        ctx.write(bulk::run::<DeleteProjectsResult>(ctx, &options, &ids, work))
            .await
    }
}

async fn create(tx: &TenantTx, input: CreateProjectInput, caller: UserId) -> WriteResult<Project> {
    let mut checks = Checks::new();
    checks.text("name", &input.name, MAX_NAME_LENGTH);
    checks.optional_text(
        "description",
        input.description.as_ref(),
        MAX_DESCRIPTION_LENGTH,
    );
    let status = input.status.unwrap_or(ProjectStatus::Planned);
    not_archived(&mut checks, status);
    checks.finish()?;
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

async fn update(tx: &TenantTx, input: UpdateProjectInput) -> WriteResult<Project> {
    let mut checks = Checks::new();
    checks.text_if_present("name", &input.name, MAX_NAME_LENGTH);
    checks.not_cleared("organizationId", &input.organization_id);
    checks.not_cleared("ownerId", &input.owner_id);
    checks.optional_text(
        "description",
        input.description.value(),
        MAX_DESCRIPTION_LENGTH,
    );
    let status = checks.not_cleared("status", &input.status).copied();
    if let Some(status) = status {
        not_archived(&mut checks, status);
    }
    checks.finish()?;
    let mut update = Update::<Project>::new(input.id, input.if_version)
        .set_if_present("name", input.name)
        .set_if_present(
            "organization_id",
            input.organization_id.map_value(OrganizationId::uuid),
        )
        .set_if_present("owner_id", input.owner_id.map_value(UserId::uuid))
        .set_or_clear("description", input.description)
        .set_or_clear("due_on", input.due_on.map_value(|date| date.0));
    if let Some(status) = status {
        update = update.set("status", status.as_str()).unless_archived();
    }
    update.run(tx).await
}

fn not_archived(checks: &mut Checks, status: ProjectStatus) {
    checks.require(
        status != ProjectStatus::Archived,
        UserErrorCode::Invalid,
        "status",
        "cannot be ARCHIVED: use archiveProject",
    );
}

async fn delete(tx: &TenantTx, input: DeleteProjectInput) -> WriteResult<Project> {
    delete_where::<Comment>(tx, "project_id", vec![input.id.uuid()]).await?;
    delete_one(tx, input.id, input.if_version).await
}

/// The input of the `deleteProjects` mutation.
#[derive(Debug, InputObject)]
pub struct DeleteProjectsInput {
    /// The IDs of the projects; at most 100.
    pub ids: Vec<ProjectId>,
    #[graphql(flatten)]
    options: BulkOptions,
}

/// The payload of the `deleteProjects` mutation.
pub type DeleteProjectsPayload = BulkPayload<DeleteProjectsResult>;

/// The result of `deleteProjects` for one project.
#[derive(Debug, SimpleObject)]
pub struct DeleteProjectsResult {
    /// The index in the list of IDs, starting at 0.
    pub index: i32,
    /// The ID of the deleted project; null if the project was not deleted.
    pub deleted_id: Option<ProjectId>,
    /// The errors that prevented the deletion of this project. Empty if it was deleted.
    pub user_errors: Objects<UserError>,
}

impl PlainFields for DeleteProjectsResult {}

impl BulkRowResult for DeleteProjectsResult {
    const MUTATION: &'static str = "deleteProjects";
    const LIST: &'static str = "ids";
    const MAX_ROWS: usize = 100;

    fn new(index: i32, row: BulkRow) -> Self {
        Self {
            index,
            deleted_id: row.id.map(ProjectId::from),
            user_errors: row.user_errors.into_iter().collect(),
        }
    }
}

/// Deletes the projects that can be deleted. Before that, finds those that cannot be deleted, because a foreign
/// key would report only one of them.
async fn delete_each(ctx: &Context<'_>, ids: &[ProjectId]) -> WriteResult<BulkResult> {
    let (tx, caller) = (ctx.tx(), ctx.principal());
    let uuids = |ids: &[ProjectId]| ids.iter().map(|id| id.uuid()).collect::<Vec<_>>();
    let no_filter = Filter::default();
    let existing = referred_to::<Project>(tx, "id", uuids(ids), &no_filter).await?;
    // A viewer gets FORBIDDEN, as from `deleteProject`, even if invoices or comments prevent the deletion too.
    let with_invoices = match caller.role {
        UserRole::Viewer => HashSet::new(),
        _ => referred_to::<Invoice>(tx, "project_id", uuids(ids), &no_filter).await?,
    };
    let with_comments_of_others = match caller.role {
        UserRole::Owner | UserRole::Admin | UserRole::Viewer => HashSet::new(),
        UserRole::Member | UserRole::Billing => {
            let caller = Value::Uuid(caller.user.uuid());
            let of_others = Filter::Compare("author_id", Comparison::Ne, caller);
            referred_to::<Comment>(tx, "project_id", uuids(ids), &of_others).await?
        }
    };

    let mut seen = HashSet::new();
    let mut rows: Vec<BulkRow> = Vec::with_capacity(ids.len());
    let mut deletable = Vec::new();
    for id in ids {
        let uuid = id.uuid();
        rows.push(if !seen.insert(uuid) {
            BulkRow::error(UserErrorCode::Invalid, "", "is in the list twice")
        } else if !existing.contains(&uuid) {
            BulkRow::error(UserErrorCode::NotFound, "", "Project not found")
        } else if with_invoices.contains(&uuid) {
            BulkRow::error(UserErrorCode::InvalidState, "", HAS_INVOICES)
        } else if with_comments_of_others.contains(&uuid) {
            BulkRow::error(UserErrorCode::InvalidState, "", HAS_COMMENTS)
        } else {
            deletable.push(*id);
            BulkRow::written(uuid)
        });
    }
    delete_where::<Comment>(tx, "project_id", uuids(&deletable)).await?;
    let deleted = delete_many::<Project>(tx, &deletable)
        .await
        .map_err(WriteError::without_value)?;
    let deleted: HashSet<Uuid> = deleted.iter().map(|project| project.id.uuid()).collect();
    for row in &mut rows {
        if row.id.is_some_and(|id| !deleted.contains(&id)) {
            *row = BulkRow::error(UserErrorCode::Forbidden, "", Error::Forbidden.to_string());
        }
    }
    Ok(BulkResult(rows))
}

//! The mutations of organizations.

use async_graphql::{Context, InputObject, MaybeUndefined};
use uuid::Uuid;

use super::Organization;
use crate::{
    db::{
        TenantTx,
        archive::{Archivable, archive, unarchive},
        write::{ConstraintRule, Insert, Update, Writable, WriteResult, delete_one, taken},
    },
    error::Result,
    graphql::{
        checks::Checks,
        context::ContextExt as _,
        mutation::{Write as _, payload, targets},
        object::Object,
        relations::RootMutations,
    },
    ids::OrganizationId,
    user_error::UserErrorCode,
};

/// The maximum length of a display name in characters.
const MAX_NAME_LENGTH: usize = 120;
/// The maximum length of a slug in characters.
const MAX_SLUG_LENGTH: usize = 63;
const INVALID_SLUG: &str =
    "must consist of lower-case letters, digits and hyphens, without a hyphen at either end";
/// The slug for names that have neither letters nor digits.
const FALLBACK_SLUG: &str = "organization";
/// The greatest number that is added to a slug if the slug is already taken.
const MAX_SLUG_NUMBER: usize = 1_000;
/// How many times to look for a free number if other transactions take the numbers first.
const MAX_SLUG_ATTEMPTS: usize = 3;

impl Writable for Organization {
    const RULES: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "organizations_slug_key",
            UserErrorCode::AlreadyExists,
            "slug",
            "is already the slug of another organization",
        ),
        ConstraintRule::new(
            "organizations_slug_form",
            UserErrorCode::Invalid,
            "slug",
            INVALID_SLUG,
        ),
        ConstraintRule::new(
            "organizations_name_length",
            UserErrorCode::Invalid,
            "name",
            "must have 1 to 120 characters",
        ),
    ];
    const REFERRERS: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "projects_organization_fkey",
            UserErrorCode::InvalidState,
            "id",
            "has projects: archive the organization instead",
        ),
        ConstraintRule::new(
            "invoices_organization_fkey",
            UserErrorCode::InvalidState,
            "id",
            "has invoices: archive the organization instead",
        ),
    ];
}

impl Archivable for Organization {}

/// The input of the `createOrganization` mutation.
#[derive(Debug, InputObject)]
pub struct CreateOrganizationInput {
    /// The display name; 1 to 120 characters.
    pub name: String,
    /// The slug, unique within the tenant: 1 to 63 lower-case letters, digits and hyphens. By default derived from
    /// the name: `Müller GmbH` becomes `muller-gmbh`, or `muller-gmbh-2` if that slug is taken.
    pub slug: Option<String>,
}

/// The input of the `updateOrganization` mutation. A field that is left out keeps its value.
#[derive(Debug, InputObject)]
pub struct UpdateOrganizationInput {
    /// The ID of the organization.
    pub id: OrganizationId,
    /// The version that the client last read. If the organization has changed since, nothing is written and the error
    /// CONFLICT is returned.
    pub if_version: Option<i32>,
    /// The display name; 1 to 120 characters. Cannot be cleared.
    pub name: MaybeUndefined<String>,
    /// The slug, unique within the tenant: 1 to 63 lower-case letters, digits and hyphens. Cannot be cleared.
    pub slug: MaybeUndefined<String>,
}

targets! {
    /// The input of the `archiveOrganization` mutation.
    ArchiveOrganizationInput(OrganizationId)
    /// The input of the `unarchiveOrganization` mutation.
    UnarchiveOrganizationInput(OrganizationId)
    /// The input of the `deleteOrganization` mutation.
    DeleteOrganizationInput(OrganizationId)
}

payload! {
    /// The payload of the `createOrganization` mutation.
    CreateOrganizationPayload { organization: Organization }
    /// The payload of the `updateOrganization` mutation.
    UpdateOrganizationPayload { organization: Organization }
    /// The payload of the `archiveOrganization` mutation.
    ArchiveOrganizationPayload { organization: Organization }
    /// The payload of the `unarchiveOrganization` mutation.
    UnarchiveOrganizationPayload { organization: Organization }
    /// The payload of the `deleteOrganization` mutation.
    DeleteOrganizationPayload { organization: Organization }
}

/// The mutations of this slice.
#[derive(Debug, Default)]
pub struct OrganizationMutations;

impl RootMutations for Organization {
    type Mutations = OrganizationMutations;
}

#[async_graphql::Object]
impl OrganizationMutations {
    /// Creates an organization. Every role except viewer may do so.
    async fn create_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization to create.")] input: CreateOrganizationInput,
    ) -> Result<Object<CreateOrganizationPayload>> {
        ctx.write(create(ctx.tx(), input)).await
    }

    /// Updates an organization. Every role except viewer may do so.
    async fn update_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization and the fields to change.")]
        input: UpdateOrganizationInput,
    ) -> Result<Object<UpdateOrganizationPayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Archives an organization: sets its status to `ARCHIVED`. Every role except viewer may do so.
    async fn archive_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization to archive.")] input: ArchiveOrganizationInput,
    ) -> Result<Object<ArchiveOrganizationPayload>> {
        ctx.write(archive::<Organization>(
            ctx.tx(),
            input.id,
            input.if_version,
        ))
        .await
    }

    /// Restores an archived organization: sets its status to `ACTIVE`. Every role except viewer may do so.
    async fn unarchive_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization to restore.")] input: UnarchiveOrganizationInput,
    ) -> Result<Object<UnarchiveOrganizationPayload>> {
        ctx.write(unarchive::<Organization>(
            ctx.tx(),
            input.id,
            input.if_version,
        ))
        .await
    }

    /// Deletes an organization that has neither projects nor invoices. Every role except viewer may do so.
    async fn delete_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization to delete.")] input: DeleteOrganizationInput,
    ) -> Result<Object<DeleteOrganizationPayload>> {
        ctx.write(delete_one(ctx.tx(), input.id, input.if_version))
            .await
    }
}

async fn create(tx: &TenantTx, input: CreateOrganizationInput) -> WriteResult<Organization> {
    let mut checks = Checks::new();
    checks.text("name", &input.name, MAX_NAME_LENGTH);
    if let Some(slug) = &input.slug {
        check_slug(&mut checks, slug);
    }
    checks.finish()?;
    match input.slug {
        Some(slug) => insert(input.name, slug).run(tx).await,
        None => create_with_free_slug(tx, input.name).await,
    }
}

fn insert(name: String, slug: String) -> Insert<Organization> {
    Insert::new(OrganizationId::generate())
        .set("name", name)
        .set("slug", slug)
}

/// Creates an organization with a slug derived from the name. Adds a number if the slug is taken. If another
/// transaction takes the slug first, the insert waits for that transaction and then writes nothing. Runs at most
/// eight statements.
async fn create_with_free_slug(tx: &TenantTx, name: String) -> WriteResult<Organization> {
    let base = slug_of(&name);
    let mut slug = base.clone();
    for _ in 0..MAX_SLUG_ATTEMPTS {
        let inserted = insert(name.clone(), slug)
            .run_unless_taken(tx, "slug")
            .await?;
        if let Some(organization) = inserted {
            return Ok(organization);
        }
        let numbered = (2..=MAX_SLUG_NUMBER).map(|number| with_suffix(&base, &number.to_string()));
        let numbered: Vec<String> = numbered.collect();
        let taken = taken::<Organization>(tx, "slug", numbered.clone()).await?;
        let mut free = numbered.into_iter().filter(|slug| !taken.contains(slug));
        slug = free.next().unwrap_or_else(|| with_random_suffix(&base));
    }
    let inserted = insert(name.clone(), slug)
        .run_unless_taken(tx, "slug")
        .await?;
    match inserted {
        Some(organization) => Ok(organization),
        // Many other transactions take numbers at the same time.
        None => insert(name, with_random_suffix(&base)).run(tx).await,
    }
}

async fn update(tx: &TenantTx, input: UpdateOrganizationInput) -> WriteResult<Organization> {
    let mut checks = Checks::new();
    checks.text_if_present("name", &input.name, MAX_NAME_LENGTH);
    if let Some(slug) = checks.not_cleared("slug", &input.slug) {
        check_slug(&mut checks, slug);
    }
    checks.finish()?;
    Update::<Organization>::new(input.id, input.if_version)
        .set_if_present("name", input.name)
        .set_if_present("slug", input.slug)
        .run(tx)
        .await
}

fn check_slug(checks: &mut Checks, slug: &str) {
    checks.text("slug", slug, MAX_SLUG_LENGTH);
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_formed = slug.bytes().all(is_part) && !slug.starts_with('-') && !slug.ends_with('-');
    checks.require(is_formed, UserErrorCode::Invalid, "slug", INVALID_SLUG);
}

/// The slug for a name, transliterated to ASCII.
fn slug_of(name: &str) -> String {
    let slug = slug::slugify(name);
    match shortened(&slug, MAX_SLUG_LENGTH) {
        "" => FALLBACK_SLUG.to_owned(),
        slug => slug.to_owned(),
    }
}

/// Adds `-suffix` to a slug, which is cut if the result would be too long.
fn with_suffix(slug: &str, suffix: &str) -> String {
    let room = MAX_SLUG_LENGTH - suffix.len() - "-".len();
    format!("{}-{suffix}", shortened(slug, room))
}

/// Adds a random suffix, which no other slug has.
fn with_random_suffix(slug: &str) -> String {
    with_suffix(slug, &Uuid::new_v4().simple().to_string())
}

/// The first `max` characters of an ASCII slug, without a hyphen at the end.
fn shortened(slug: &str, max: usize) -> &str {
    slug.get(..max).unwrap_or(slug).trim_end_matches('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_the_name_in_ascii() {
        for (name, slug) in [
            ("Acme GmbH & Co. KG", "acme-gmbh-co-kg"),
            ("Müller GmbH", "muller-gmbh"),
            ("  Über 42  ", "uber-42"),
            ("日本", "ri-ben"),
            ("Ελλάδα", "ellada"),
            ("???", "organization"),
            ("\u{e000}", "organization"),
        ] {
            assert_eq!(slug_of(name), slug);
        }
    }

    #[test]
    fn a_slug_keeps_its_length_limit_and_ends_with_a_letter_or_digit() {
        assert_eq!(slug_of(&format!("{} x", "a".repeat(62))), "a".repeat(62));
        assert_eq!(slug_of(&"ß".repeat(120)).len(), MAX_SLUG_LENGTH);
        let long = format!("{}-{}", "a".repeat(60), "bb");
        assert_eq!(with_suffix(&long, "2"), format!("{}-2", "a".repeat(60)));
        assert_eq!(with_suffix(&long, "1000").len(), MAX_SLUG_LENGTH);
        assert_eq!(with_random_suffix(&long).len(), MAX_SLUG_LENGTH);
        assert_eq!(with_suffix("acme", "2"), "acme-2");
    }
}

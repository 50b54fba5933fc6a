//! The mutations of organizations.

use async_graphql::{Context, InputObject, MaybeUndefined};

use super::{Organization, OrganizationStatus};
use crate::{
    db::{
        TenantTx,
        write::{Insert, Update, Writable, Written, delete_one},
    },
    error::Result,
    graphql::{
        context::ContextExt as _,
        enums::StoredEnum as _,
        mutation::{Write as _, payload, targets},
        object::Object,
        relations::RootMutations,
    },
    ids::OrganizationId,
    user_error::{Checks, Rule, UserErrorCode},
};

/// The most characters of a display name.
const MAX_NAME_LENGTH: usize = 120;
/// Most characters of a slug.
const SLUG: usize = 63;
const SLUG_FORM: &str = "is lower-case letters, digits and hyphens, a hyphen at neither end";

impl Writable for Organization {
    const RULES: &'static [Rule] = &[
        Rule::new(
            "organizations_slug_key",
            UserErrorCode::AlreadyExists,
            "slug",
            "is already the slug of another organization",
        ),
        Rule::new(
            "organizations_slug_form",
            UserErrorCode::Invalid,
            "slug",
            SLUG_FORM,
        ),
        Rule::new(
            "organizations_name_length",
            UserErrorCode::Invalid,
            "name",
            "must have 1 to 120 characters",
        ),
    ];
    const REFERRERS: &'static [Rule] = &[
        Rule::new(
            "projects_organization_fkey",
            UserErrorCode::InvalidState,
            "id",
            "has projects: archive it instead",
        ),
        Rule::new(
            "invoices_organization_fkey",
            UserErrorCode::InvalidState,
            "id",
            "has invoices: archive it instead",
        ),
    ];
}

/// The input of the `createOrganization` mutation.
#[derive(Debug, InputObject)]
pub struct CreateOrganizationInput {
    /// The display name; 1 to 120 characters.
    pub name: String,
    /// The name in addresses, unique in the tenant: up to 63 lower-case letters, digits and hyphens;
    /// made from the name if not given.
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
        let archive = Update::<Organization>::new(input.id, input.if_version)
            .set("status", OrganizationStatus::Archived.as_str())
            .unless("status", "ARCHIVED", "is already archived");
        ctx.write(archive.run(ctx.tx())).await
    }

    /// Restores an archived organization: sets its status to `ACTIVE`. Every role except viewer may do so.
    async fn unarchive_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization to restore.")] input: UnarchiveOrganizationInput,
    ) -> Result<Object<UnarchiveOrganizationPayload>> {
        let unarchive = Update::<Organization>::new(input.id, input.if_version)
            .set("status", OrganizationStatus::Active.as_str())
            .only_if("status", "ARCHIVED", "is not archived");
        ctx.write(unarchive.run(ctx.tx())).await
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

async fn create(tx: &TenantTx, input: CreateOrganizationInput) -> Written<Organization> {
    let mut checks = Checks::new();
    checks.text("name", &input.name, MAX_NAME_LENGTH);
    let slug = input.slug.unwrap_or_else(|| slug_of(&input.name));
    check_slug(&mut checks, &slug);
    checks.done()?;
    Insert::<Organization>::new(OrganizationId::generate())
        .set("name", input.name)
        .set("slug", slug)
        .run(tx)
        .await
}

async fn update(tx: &TenantTx, input: UpdateOrganizationInput) -> Written<Organization> {
    let mut checks = Checks::new();
    checks.changed_text("name", &input.name, MAX_NAME_LENGTH);
    if let Some(slug) = checks.change("slug", &input.slug) {
        check_slug(&mut checks, slug);
    }
    checks.done()?;
    Update::<Organization>::new(input.id, input.if_version)
        .change("name", input.name)
        .change("slug", input.slug)
        .run(tx)
        .await
}

fn check_slug(checks: &mut Checks, slug: &str) {
    checks.text("slug", slug, SLUG);
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_formed = slug.bytes().all(is_part) && !slug.starts_with('-') && !slug.ends_with('-');
    checks.require(is_formed, UserErrorCode::Invalid, "slug", SLUG_FORM);
}

/// A slug for a name: its ASCII letters and digits, in lower case, a hyphen for each gap. Empty if it
/// has none of them.
fn slug_of(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let words = lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let slug = words.collect::<Vec<_>>().join("-");
    slug.chars()
        .take(SLUG)
        .collect::<String>()
        .trim_end_matches('-')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_made_of_the_letters_and_digits_of_a_name() {
        for (name, slug) in [
            ("Acme GmbH & Co. KG", "acme-gmbh-co-kg"),
            ("  Über 42  ", "ber-42"),
            ("日本", ""),
        ] {
            assert_eq!(slug_of(name), slug);
        }
        assert_eq!(slug_of(&format!("{} x", "a".repeat(62))).len(), 62);
    }
}

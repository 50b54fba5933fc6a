//! What changes organizations.

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

/// Most characters of a name.
const NAME: usize = 120;
/// Most characters of a slug.
const SLUG: usize = 63;
const SLUG_FORM: &str = "is lower-case letters, digits and hyphens, a hyphen at neither end";

impl Writable for Organization {
    const RULES: &'static [Rule] = &[
        Rule::new(
            "organizations_slug_key",
            UserErrorCode::AlreadyExists,
            "slug",
            "is the slug of another organization",
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
            "has 1 to 120 characters",
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

/// What a new organization is made of.
#[derive(Debug, InputObject)]
pub struct CreateOrganizationInput {
    /// The name for people; 1 to 120 characters.
    pub name: String,
    /// The name in addresses, unique in the tenant: up to 63 lower-case letters, digits and hyphens;
    /// made from the name if not given.
    pub slug: Option<String>,
}

/// What is to change about an organization. A field that is left out stays as it is.
#[derive(Debug, InputObject)]
pub struct UpdateOrganizationInput {
    /// Its id.
    pub id: OrganizationId,
    /// Only if it still has this version; otherwise CONFLICT.
    pub if_version: Option<i32>,
    /// The name for people; 1 to 120 characters. Cannot be cleared.
    pub name: MaybeUndefined<String>,
    /// The name in addresses. Cannot be cleared.
    pub slug: MaybeUndefined<String>,
}

targets! {
    /// The organization to archive.
    ArchiveOrganizationInput(OrganizationId)
    /// The organization to take out of the archive.
    UnarchiveOrganizationInput(OrganizationId)
    /// The organization to delete.
    DeleteOrganizationInput(OrganizationId)
}

payload! {
    /// What came of `createOrganization`.
    CreateOrganizationPayload { organization: Organization }
    /// What came of `updateOrganization`.
    UpdateOrganizationPayload { organization: Organization }
    /// What came of `archiveOrganization`.
    ArchiveOrganizationPayload { organization: Organization }
    /// What came of `unarchiveOrganization`.
    UnarchiveOrganizationPayload { organization: Organization }
    /// What came of `deleteOrganization`: the organization as it was.
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
    /// Makes an organization. For all but viewers.
    async fn create_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization.")] input: CreateOrganizationInput,
    ) -> Result<Object<CreateOrganizationPayload>> {
        ctx.write(create(ctx.tx(), input)).await
    }

    /// Changes an organization. For all but viewers.
    async fn update_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which organization, and what is to change.")]
        input: UpdateOrganizationInput,
    ) -> Result<Object<UpdateOrganizationPayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Puts an organization into the archive. For all but viewers.
    async fn archive_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which organization.")] input: ArchiveOrganizationInput,
    ) -> Result<Object<ArchiveOrganizationPayload>> {
        let archive = Update::<Organization>::new(input.id, input.if_version)
            .set("status", OrganizationStatus::Archived.as_str())
            .unless("status", "ARCHIVED", "is in the archive already");
        ctx.write(archive.run(ctx.tx())).await
    }

    /// Takes an organization out of the archive. For all but viewers.
    async fn unarchive_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which organization.")] input: UnarchiveOrganizationInput,
    ) -> Result<Object<UnarchiveOrganizationPayload>> {
        let unarchive = Update::<Organization>::new(input.id, input.if_version)
            .set("status", OrganizationStatus::Active.as_str())
            .only_if("status", "ARCHIVED", "is not in the archive");
        ctx.write(unarchive.run(ctx.tx())).await
    }

    /// Deletes an organization that has neither projects nor invoices. For all but viewers.
    async fn delete_organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which organization.")] input: DeleteOrganizationInput,
    ) -> Result<Object<DeleteOrganizationPayload>> {
        ctx.write(delete_one(ctx.tx(), input.id, input.if_version))
            .await
    }
}

async fn create(tx: &TenantTx, input: CreateOrganizationInput) -> Written<Organization> {
    let mut checks = Checks::new();
    checks.text("name", &input.name, NAME);
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
    checks.changed_text("name", &input.name, NAME);
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

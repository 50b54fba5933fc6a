//! The only list of entities. The ID types, `Node`, the subjects of the audit log and the roots of the API are
//! generated from it, and the tests read it. To add an entity to all of them, add one line here.

/// Calls the macro `$then` with the list. Each line has this form:
///
/// ```text
/// /// The description of one row, for the schema.
/// Project: ProjectId = "prj" in "projects" of projects;
/// ```
///
/// A line has, in this order: the Rust type of the row, whose name is also the name of the GraphQL type; the type of
/// its ID; the prefix of its IDs, three letters; its table; the module of its slice. Triggers on the tables under
/// `audited` write the audit log.
macro_rules! entities {
    ($then:ident) => {
        $then! {
            audited {
                /// A tenant of the service.
                Tenant: TenantId = "ten" in "tenants" of tenants;
                /// A user of the tenant.
                User: UserId = "usr" in "users" of users;
                /// An organization of the tenant.
                Organization: OrganizationId = "org" in "organizations" of organizations;
                /// A project of the tenant.
                Project: ProjectId = "prj" in "projects" of projects;
                /// A product of the tenant.
                Product: ProductId = "prd" in "products" of products;
                /// An invoice of the tenant.
                Invoice: InvoiceId = "inv" in "invoices" of invoices;
                /// A line of an invoice.
                InvoiceLineItem: InvoiceLineItemId = "ili" in "invoice_line_items" of invoices;
                /// A comment on a project, an invoice or a product.
                Comment: CommentId = "com" in "comments" of comments;
            }
            unaudited {
                /// An entry of the audit log.
                AuditLog: AuditLogId = "aud" in "audit_logs" of audit;
            }
        }
    };
}
pub(crate) use entities;

/// The properties of an entity in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityInfo {
    /// The name of the entity's GraphQL type.
    pub type_name: &'static str,
    /// The prefix of the entity's ids.
    pub id_prefix: &'static str,
    /// The entity's table.
    pub table: &'static str,
    /// Whether changes of the entity's rows are written to the audit log.
    pub is_audited: bool,
}

macro_rules! infos {
    (
        audited { $($(#[$doc:meta])* $row:ident: $id:ident = $prefix:literal in $table:literal of $slice:ident;)+ }
        unaudited { $($(#[$doc_:meta])* $row_:ident: $id_:ident = $prefix_:literal in $table_:literal of $slice_:ident;)+ }
    ) => {
        /// Every entity, in the order of the list.
        pub const ENTITIES: &[EntityInfo] = &[
            $(EntityInfo {
                type_name: stringify!($row),
                id_prefix: $prefix,
                table: $table,
                is_audited: true,
            },)+
            $(EntityInfo {
                type_name: stringify!($row_),
                id_prefix: $prefix_,
                table: $table_,
                is_audited: false,
            },)+
        ];
    };
}
entities!(infos);

#[cfg(test)]
mod tests {
    use super::ENTITIES;

    #[test]
    fn prefixes_tables_and_types_are_unique() {
        type Property = fn(&super::EntityInfo) -> &'static str;
        let properties: [Property; 3] = [
            |entity| entity.id_prefix,
            |entity| entity.table,
            |entity| entity.type_name,
        ];
        for property in properties {
            let mut seen: Vec<&str> = ENTITIES.iter().map(property).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), ENTITIES.len(), "{seen:?}");
        }
    }

    #[test]
    fn a_prefix_is_three_lower_case_letters() {
        for entity in ENTITIES {
            let prefix = entity.id_prefix;
            let is_lower_case = prefix.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(prefix.len() == 3 && is_lower_case, "{prefix}");
        }
    }
}

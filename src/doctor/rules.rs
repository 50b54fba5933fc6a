//! The list of the rules. `docs/doctor/` has one page for each.

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A gap in the isolation of the tenants.
    Error,
    /// A risk, or a loss of speed.
    Warning,
}

impl Severity {
    /// The name in every output; also the level in SARIF.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// When the service itself runs a rule. Each later value includes the earlier ones: `palisade doctor` runs every rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunAt {
    /// Only by `palisade doctor`.
    Demand,
    /// Also when the service starts.
    Start,
    /// Also every few seconds while the service runs.
    Always,
}

/// A rule: what it inspects, and why that matters.
#[derive(Debug)]
pub struct Rule {
    /// The code, such as `D04`. It never changes.
    pub code: &'static str,
    /// The name in addresses and messages, such as `rls-off`.
    pub slug: &'static str,
    /// The severity of its findings.
    pub severity: Severity,
    /// When the service itself runs the rule.
    pub run_at: RunAt,
    /// What a finding means, in one line.
    pub title: &'static str,
    /// The reason for the rule, in one or two sentences.
    pub why: &'static str,
    /// The query.
    pub(super) sql: &'static str,
}

/// The code of the rule that attacks the tables.
pub const LIVE_PROBE: &str = "D36";

/// The code of the rule about unsigned contexts. Its findings are errors for a service that signs contexts.
pub const CONTEXT_UNSIGNED: &str = "D34";

impl Rule {
    /// Whether the rule prints expressions of policies. PostgreSQL needs a lock on the table for this, so the rule waits
    /// for another transaction that holds an ACCESS EXCLUSIVE lock.
    #[must_use]
    pub fn needs_table_locks(&self) -> bool {
        ["using_text", "check_text", "pg_get_expr"]
            .iter()
            .any(|text| self.sql.contains(text))
    }

    /// The path of the rule's page in the repository.
    #[must_use]
    pub fn page(&self) -> String {
        format!("docs/doctor/{}-{}.md", self.code, self.slug)
    }
}

macro_rules! rules {
    ($($code:literal $slug:literal $severity:ident $run_at:ident $title:literal $why:literal)*) => {
        /// Every rule, by code.
        pub const RULES: &[Rule] = &[$(Rule {
            code: $code,
            slug: $slug,
            severity: Severity::$severity,
            run_at: RunAt::$run_at,
            title: $title,
            why: $why,
            sql: include_str!(concat!("rules/", $code, ".sql")),
        }),*];
    };
}

rules! {
    "D01" "role-bypass" Error Always "The service's role bypasses row level security"
        "Row level security never applies to a superuser or a role with BYPASSRLS. CREATEROLE can create such rights, and REPLICATION reads the rows of every tenant from the write-ahead log."
    "D02" "role-member" Error Always "The service's role is a member of a dangerous role"
        "A member has the rights of the group or can assume them with SET ROLE. Predefined roles such as pg_read_all_data, pg_monitor and pg_signal_backend act on every tenant."
    "D03" "role-owner" Error Always "The service's role owns objects"
        "The owner of a table can switch off its row level security, and the owner of a function or schema can replace what the policies call."
    "D04" "rls-off" Error Always "A tenant table has no row level security"
        "Without row level security, a grant alone decides: every tenant reads and writes every row."
    "D05" "rls-not-forced" Error Always "Row level security is not forced"
        "Without FORCE, the policies do not apply to the owner of the table, nor to functions and views that run as the owner."
    "D06" "no-tenant-column" Error Start "A table has no tenant column"
        "Rows without a tenant belong to every tenant. A table that all tenants share on purpose says so in its comment."
    "D07" "tenant-column-type" Error Start "The tenant column may be null or has another type"
        "A row whose tenant is null belongs to no tenant and disappears. Different types make comparisons convert values, which can prevent the use of an index."
    "D08" "policy-count" Error Always "A table does not have exactly one permissive policy per command"
        "PostgreSQL combines permissive policies with OR. A second one can only permit more, whatever it says. Without any, every row is hidden."
    "D09" "policy-expression" Error Always "A policy does not compare the tenant column with the context"
        "A permissive policy decides which rows a tenant sees. An expression that is always true, contains OR or reads another setting opens rows of other tenants."
    "D10" "policy-helper" Error Start "A policy calls an unsafe function"
        "PostgreSQL evaluates an IMMUTABLE function while it plans and keeps the result in cached plans: the next tenant then gets the rows of the first one."
    "D11" "policy-per-row" Warning Demand "A policy reads the context once per row"
        "A call inside `(select …)` runs once per statement. Without the sub-select it runs once per row, which is several times slower."
    "D12" "foreign-key-without-tenant" Error Always "A foreign key does not contain the tenant"
        "PostgreSQL checks foreign keys without row level security. Without the tenant on both sides, a tenant can reference rows of another tenant, test whether they exist, and delete them by a cascade."
    "D13" "unique-without-tenant" Error Start "A unique key spans all tenants"
        "PostgreSQL checks unique keys without row level security. The error of an insert tells a tenant that another tenant has the value."
    "D14" "index-without-tenant" Warning Always "An index does not begin with the tenant"
        "Each query of a tenant has the condition of the policy. Only an index that begins with the tenant column limits the query to the rows of that tenant."
    "D15" "foreign-key-without-index" Warning Demand "A foreign key has no index"
        "Each deletion of a referenced row searches the referencing table. Without an index, it reads the whole table, of all tenants."
    "D16" "index-not-leakproof" Warning Demand "An index uses operators that are not leakproof"
        "Under row level security, PostgreSQL uses an operator as an index condition only if it is leakproof. Operators of numeric, enum, citext, jsonb, arrays and full text are not."
    "D17" "view-not-invoker" Error Start "A view reads with the rights of its owner"
        "Without security_invoker, the policies apply to the owner of the view and not to the caller. If the owner bypasses them, the view shows every tenant."
    "D18" "no-policies-possible" Error Start "The service reads a materialized view or foreign table"
        "Materialized views and foreign tables cannot have policies: they show the rows of every tenant."
    "D19" "partition" Error Start "A partition lacks the policies of its parent"
        "A query of the parent uses the parent's policies. A query that names the partition uses only those of the partition, which it does not inherit."
    "D20" "definer-function" Error Start "The service calls a function that runs as its owner"
        "A SECURITY DEFINER function has the rights of its owner, so each one is a possible way to other tenants. A reviewed function says so in its comment."
    "D21" "definer-unpinned" Error Start "A function with its owner's rights can be misled"
        "Without a fixed search_path, the function finds objects of the caller before those that it means. An owner that bypasses row level security passes this right to the caller."
    "D22" "truncate-grant" Error Start "The service may truncate or reference tables"
        "TRUNCATE empties a table for all tenants. REFERENCES creates foreign keys that test the rows of other tenants. TRIGGER runs code as other roles. Row level security limits none of them."
    "D23" "public-grants" Error Start "PUBLIC or the service's role has rights that it does not need"
        "A right of PUBLIC is a right of every role, also of future ones. A role that can create objects can create tables without policies, and functions that shadow others."
    "D24" "default-privileges" Warning Demand "New objects are granted automatically"
        "Default privileges grant a new table before its row level security is enabled."
    "D25" "shared-sequence" Warning Demand "Tenants share a sequence"
        "The values of a shared sequence show how many rows other tenants insert."
    "D26" "setting-default" Error Start "The context has a default"
        "A session without a context must see no rows. With a default, it acts for a tenant."
    "D27" "no-timeout" Warning Demand "The service's role lacks a timeout"
        "A statement, a wait for a lock or an idle transaction without a limit keeps a connection that all tenants share."
    "D28" "server-outdated" Error Demand "PostgreSQL lacks security fixes"
        "Minor releases fix gaps in row level security, such as CVE-2024-10976 and CVE-2025-8713. They need no migration."
    "D29" "dangerous-extension" Error Demand "An extension or language opens ways around the policies"
        "Extensions such as dblink connect to other databases as other roles. Functions in untrusted languages read files and run programs."
    "D30" "publication" Warning Demand "A publication sends the rows of all tenants"
        "Logical replication ignores row level security: a subscriber receives every row that the publication does not filter."
    "D31" "audit-mutable" Error Start "The service may change the audit log"
        "An audit log proves something only if the role that writes the data cannot change it."
    "D32" "rule-or-event-trigger" Warning Demand "A rule or event trigger changes what statements do"
        "Rules replace statements, and event triggers run with the rights of the role that changes the schema. Both are easy to overlook in a review."
    "D33" "policy-without-rls" Error Start "A table has policies, but row level security is off"
        "The policies have no effect until row level security is enabled. A later grant opens the table."
    "D34" "context-unsigned" Warning Always "The context of a transaction is not signed"
        "Without a signature, one injected SQL statement can set the context of any tenant and read and write its rows."
    "D35" "leakproof-function" Error Demand "A function is marked as leakproof"
        "PostgreSQL may run a leakproof function before the policies, on rows of every tenant. If it reports or stores its arguments, it leaks them."
    "D36" "live-probe" Error Demand "An attack on a table succeeded"
        "The other rules read the catalogue. This one acts as the service's role and tries to read without a context, to read as a tenant that does not exist, and to insert a row of another tenant."
    "D37" "schema-drift" Warning Start "The schema differs from the one that the migrations create"
        "The statements of this version name these columns. A missing column or another type makes them fail, or compare values of different types."
    "D38" "large-objects" Warning Demand "The service may use large objects"
        "Large objects have no row level security: every role that may call the functions can read and write its objects for all tenants."
    "D39" "shadowed-name" Error Demand "An object has the name of one in pg_catalog"
        "A call without a schema can run the wrong function or operator. An owner of the schema could deceive an audit this way."
    "D40" "trigger-disabled" Error Always "A trigger does not fire"
        "Triggers write the audit log, keep keys and check foreign keys. A disabled trigger is invisible to the queries of the service."
    "D41" "tenant-row-writable" Error Start "A tenant may write its own row in the table of tenants"
        "The row holds what the tenant must not decide: its plan, its status and its name in URLs. Grant the update of single columns."
    "D42" "audit-not-a-table" Error Start "An audit log is not a table"
        "A view in the place of the table can show each reader other rows than those that are stored."
    "D43" "log-values" Warning Demand "The log of PostgreSQL can contain values of rows"
        "The detail of an error quotes the row, and the parameters of a statement are values. The log is outside the isolation of the tenants."
    "D44" "role-not-narrow" Warning Demand "The service's role has more than it needs"
        "Each membership and each default of a session is a right or a switch that the next change can turn into a gap."
    "D45" "no-with-check" Error Always "A policy has no WITH CHECK, or one that differs from USING"
        "WITH CHECK limits what a tenant writes. If it permits more than USING, a tenant plants rows in another tenant."
    "D46" "context-per-session" Error Start "A function sets the context for the whole session"
        "SET without LOCAL survives the transaction. The pool then gives the connection, with the tenant in it, to the next request."
    "D47" "context-keys" Error Always "The service can read the keys of contexts"
        "A reader of a key can sign a context of any tenant. The service has its key from its environment and never reads it from the database."
    "D48" "statements-visible" Warning Always "The service sees the statements of other sessions"
        "The statement that opens a transaction contains its context, which is valid for 30 seconds. An injected SQL statement could copy that of another tenant. Only a superuser can revoke these rights: run `palisade migrate` as one."
    "D49" "session-state" Warning Start "The service can leave state in the sessions of its pool"
        "A pooled connection serves one tenant after the other. With DO, an injected SQL statement can replace a prepared statement, which the next tenant runs; a lock of the session stays until the connection closes. Only a superuser can revoke these rights: run `palisade migrate` as one."
    "D50" "cancel-powerless" Warning Always "The service cannot cancel its statements"
        "The statement of an operation whose client has disconnected or whose time has run out continues until its own timeout, and keeps its connection. Only a superuser can give app.cancel() its rights: run `palisade migrate` as one."
    "D51" "other-databases" Warning Demand "The service's role may connect to other databases"
        "Rights on pg_stat_activity belong to one database. In another one, the role sees its statements in this database, with contexts that are valid for 30 seconds."
}

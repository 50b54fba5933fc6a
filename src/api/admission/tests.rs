use std::sync::Arc;

use async_graphql::{Value, value};

use super::*;
use crate::api::{guard::Limits, schema::shape};

struct Service {
    admission: Arc<Admission>,
}

impl Service {
    fn new(cache_bytes: u64) -> Self {
        Self::with_limits(cache_bytes, Limits::default())
    }

    fn with_limits(cache_bytes: u64, limits: Limits) -> Self {
        let guard = Guard {
            limits,
            shape: shape(),
        };
        Self {
            admission: Arc::new(Admission::new(guard, cache_bytes)),
        }
    }

    /// Sends a request. Returns whether the document was in the cache, or the messages of the errors.
    fn send_named(
        &self,
        tenant: TenantId,
        text: &str,
        name: Option<&str>,
        variables: &Value,
    ) -> Result<bool, Vec<String>> {
        let key = DocumentKey {
            text: text.to_owned(),
            operation_name: name.map(str::to_owned),
        };
        let variables = Variables::from_value(variables.clone());
        match self.admission.admit(tenant, key, &variables) {
            Ok(request) => {
                request.store();
                Ok(request.is_cached)
            }
            Err(error) => Err(error.errors.into_iter().map(|one| one.message).collect()),
        }
    }

    fn send(&self, tenant: TenantId, text: &str) -> Result<bool, Vec<String>> {
        self.send_named(tenant, text, None, &value!({}))
    }

    fn count(&self, tenant: TenantId) -> usize {
        self.admission.documents.count(tenant)
    }

    fn bytes(&self) -> u64 {
        self.admission.documents.size()
    }
}

const MIB: u64 = 1024 * 1024;
const DOCUMENT: &str = "{ viewer { user { id email } } }";

/// A valid document of some kilobytes in memory; each number results in another document.
fn document(number: usize) -> String {
    format!("{{ viewer {{ user {{ id email displayName alias{number}: email }} }} }}")
}

#[test]
fn a_document_is_validated_once_by_each_tenant() {
    let service = Service::new(MIB);
    let (acme, globex) = (TenantId::generate(), TenantId::generate());
    assert_eq!(service.send(acme, DOCUMENT), Ok(false));
    assert_eq!(service.send(acme, DOCUMENT), Ok(true));
    assert_eq!(service.send(globex, DOCUMENT), Ok(false));
    assert_eq!(service.send(globex, DOCUMENT), Ok(true));
    assert_eq!((service.count(acme), service.count(globex)), (1, 1));
    let same_with_a_space = format!("{DOCUMENT} ");
    assert_eq!(service.send(acme, &same_with_a_space), Ok(false));
}

#[test]
fn nothing_is_cached_of_a_rejected_document() {
    let service = Service::new(MIB);
    let tenant = TenantId::generate();
    let deep = format!("{{ a {} }}", "{ a ".repeat(20) + &"} ".repeat(20));
    let none = value!({});
    let by_id = "query($id: ID!) { project(id: $id) { id } }";
    for (text, name, variables) in [
        ("{", None, &none),
        (&*deep, None, &none),
        (
            "{ projects(first: 100) { nodes { invoices(first: 100) { nodes { lineItems(first: 100) { nodes { id } } } } } } }",
            None,
            &none,
        ),
        ("{ unknown }", None, &none),
        ("{ projects(first: \"1\") { totalCount } }", None, &none),
        (DOCUMENT, Some("Unknown"), &none),
        (by_id, None, &none),
        (by_id, None, &value!({ "id": true })),
        (
            "query { projects { ...f } } fragment f on Project { id }",
            None,
            &none,
        ),
    ] {
        let sent = service.send_named(tenant, text, name, variables);
        assert!(sent.is_err(), "{text}: {sent:?}");
        assert_eq!((service.count(tenant), service.bytes()), (0, 0), "{text}");
    }
}

#[test]
fn the_bytes_of_all_documents_are_bounded() {
    let service = Service::new(MIB / 2);
    let tenants: Vec<_> = (0..30).map(|_| TenantId::generate()).collect();
    for tenant in &tenants {
        for number in 0..10 {
            service.send(*tenant, &document(number)).unwrap();
        }
    }
    let (bytes, max) = (service.bytes(), MIB / 2);
    assert!((max / 2..=max).contains(&bytes), "{bytes}");
    // The cache still has the documents of the last tenant, and has removed those of the first tenant.
    let counts: Vec<_> = tenants
        .iter()
        .map(|tenant| service.count(*tenant))
        .collect();
    assert_eq!(counts.last(), Some(&10), "{counts:?}");
    assert_eq!(counts.first(), Some(&0), "{counts:?}");
}

#[test]
fn a_tenant_displaces_only_its_own_documents_beyond_its_share() {
    let service = Service::new(MIB);
    let (quiet, busy) = (TenantId::generate(), TenantId::generate());
    service.send(quiet, DOCUMENT).unwrap();
    for number in 0..500 {
        service.send(busy, &document(number)).unwrap();
    }
    assert_eq!(service.send(quiet, DOCUMENT), Ok(true));
    assert!(service.bytes() <= MIB / 8 + MIB / 32, "{}", service.bytes());
    let kept = service.count(busy);
    assert!((5..500).contains(&kept), "{kept}");
    // The newest documents remain.
    assert_eq!(service.send(busy, &document(499)), Ok(true));
    assert_eq!(service.send(busy, &document(0)), Ok(false));
}

#[test]
fn a_document_larger_than_the_share_is_not_cached() {
    let service = Service::new(MIB / 4);
    let tenant = TenantId::generate();
    service.send(tenant, DOCUMENT).unwrap();
    let fields = "email ".repeat(1_000);
    let large = format!("{{ viewer {{ user {{ {fields} }} }} }}");
    assert_eq!(service.send(tenant, &large), Ok(false));
    assert_eq!(service.send(tenant, &large), Ok(false));
    assert_eq!(service.count(tenant), 1);
}

#[test]
fn a_cache_without_bytes_stores_nothing() {
    let service = Service::new(0);
    let tenant = TenantId::generate();
    assert_eq!(service.send(tenant, DOCUMENT), Ok(false));
    assert_eq!(service.send(tenant, DOCUMENT), Ok(false));
    assert_eq!(service.count(tenant), 0);
}

#[test]
fn a_service_with_other_limits_does_not_use_the_documents() {
    let tenant = TenantId::generate();
    let before = Service::new(MIB);
    before.send(tenant, DOCUMENT).unwrap();
    let limits = Limits {
        depth: 2,
        ..Limits::default()
    };
    let after = Service::with_limits(MIB, limits);
    let errors = after.send(tenant, DOCUMENT).unwrap_err();
    assert_eq!(
        errors,
        ["the request has more than 2 levels of nested fields"]
    );
}

#[test]
fn the_cost_is_that_of_the_variables() {
    let service = Service::new(MIB);
    let tenant = TenantId::generate();
    let text = "query($n: Int) { projects(first: $n) { nodes { invoices(first: 100) { nodes { id } } } } }";
    let cost = |n: i32| {
        let key = DocumentKey {
            text: text.to_owned(),
            operation_name: None,
        };
        let variables = Variables::from_value(value!({ "n": n }));
        let request = service.admission.admit(tenant, key, &variables);
        request
            .map(|request| request.cost())
            .map_err(|error| error.to_string())
    };
    let few = service.send_named(tenant, text, None, &value!({ "n": 1 }));
    assert_eq!(few, Ok(false));
    assert_eq!(cost(1), Ok(103));
    assert_eq!(cost(10), Ok(1_021));
    let limits = Limits {
        cost: 1_000,
        ..Limits::default()
    };
    let strict = Service::with_limits(MIB, limits);
    let send = |n: i32| strict.send_named(tenant, text, None, &value!({ "n": n }));
    assert_eq!(send(1), Ok(false));
    assert!(send(10).is_err());
    assert_eq!(send(1), Ok(true));
}

#[test]
fn each_operation_of_a_document_is_admitted_by_its_name() {
    let service = Service::new(MIB);
    let tenant = TenantId::generate();
    let text =
        "query A { viewer { ...f } } query B($id: ID!) { project(id: $id) { id } viewer { ...f } }
        fragment f on Viewer { user { id } }";
    let send = |name, variables| service.send_named(tenant, text, name, &variables);
    assert_eq!(send(Some("A"), value!({})), Ok(false));
    assert_eq!(send(Some("A"), value!({})), Ok(true));
    assert_eq!(send(Some("B"), value!({ "id": "x" })), Ok(false));
    assert_eq!(send(Some("B"), value!({ "id": "y" })), Ok(true));
    assert!(send(Some("B"), value!({})).is_err());
    assert!(send(Some("C"), value!({})).is_err());
    assert!(send(None, value!({})).is_err());
    assert_eq!(service.count(tenant), 2);
}

/// Values of the variables of [`DOCUMENTS_WITH_VARIABLES`], by the name of the variable.
fn sets_of_variables(document: &str) -> Vec<Value> {
    if document.contains("$id") {
        vec![
            value!({ "id": "prj_1" }),
            value!({ "id": 1 }),
            value!({ "id": 1.5 }),
            value!({ "id": true }),
            value!({ "id": null }),
            value!({ "id": ["a"] }),
            value!({ "id": "x", "other": 1 }),
            value!({}),
        ]
    } else if document.contains("$f") {
        vec![
            value!({ "f": { "name": { "eq": "a" } } }),
            value!({ "f": { "name": { "eq": 1 } } }),
            value!({ "f": { "name": "a" } }),
            value!({ "f": { "unknown": 1 } }),
            value!({ "f": { "and": [{ "name": { "eq": "a" } }, { "not": { "name": { "eq": null } } }] } }),
            value!({ "f": { "and": { "name": { "eq": "a" } } } }),
            value!({ "f": { "status": { "eq": "ACTIVE" } } }),
            value!({ "f": { "status": { "in": ["ACTIVE", "NONE"] } } }),
            value!({ "f": {} }),
            value!({ "f": null }),
            value!({ "f": "a" }),
            value!({ "f": [] }),
            value!({}),
        ]
    } else if document.contains("$b") {
        vec![
            value!({ "b": true }),
            value!({ "b": false }),
            value!({ "b": "true" }),
            value!({ "b": null }),
            value!({}),
        ]
    } else if document.contains("$i") {
        vec![
            value!({ "i": { "name": "a", "organizationId": "org_1" } }),
            value!({ "i": { "name": "a" } }),
            value!({ "i": { "name": null, "organizationId": "org_1" } }),
            value!({ "i": { "name": "a", "organizationId": "org_1", "status": "ACTIVE", "dueOn": "2026-01-01" } }),
            value!({ "i": { "name": "a", "organizationId": "org_1", "status": "NONE" } }),
            value!({ "i": { "name": "a", "organizationId": "org_1", "dueOn": 5 } }),
            value!({ "i": { "name": "a", "organizationId": "org_1", "more": 5 } }),
            value!({ "i": null }),
            value!({}),
        ]
    } else {
        vec![
            value!({ "s": "a" }),
            value!({ "s": 1 }),
            value!({ "s": null }),
            value!({ "s": {} }),
            value!({}),
        ]
    }
}

/// Documents with a variable in each location that allows one.
const DOCUMENTS_WITH_VARIABLES: [&str; 23] = [
    "query($id: ID!) { project(id: $id) { id } }",
    "query($id: ID! = \"x\") { project(id: $id) { id } }",
    "query($id: ID = \"x\") { project(id: $id) { id } }",
    "query($id: ID!) { nodes(ids: [$id, \"y\"]) { id } }",
    "query($id: [ID!]!) { nodes(ids: $id) { id } }",
    "query($id: ID!) { ...f } fragment f on Query { a: project(id: $id) { id } }",
    "query($id: ID!) { __type(name: \"Project\") { name } project(id: $id) { ... { id } } }",
    "query($f: ProjectFilter) { projects(filter: $f) { totalCount } }",
    "query($f: ProjectFilter!) { projects(filter: { and: [$f, { not: $f }] }) { totalCount } }",
    "query($f: ProjectFilter) { projects(filter: { not: $f }) { totalCount } }",
    "query($s: String) { projects(after: $s) { totalCount } }",
    "query($s: String!) { projects(filter: { name: { eq: $s } }) { totalCount } }",
    "query($s: String) { projects(filter: { name: { eq: $s } }) { totalCount } }",
    "query($s: String = \"z\") { projects(filter: { name: { eq: $s } }) { totalCount } }",
    "query($s: String!) { projects(filter: { name: { in: [$s, \"b\"] } }) { totalCount } }",
    "query($s: String) { viewer { user { id } } projects { nodes { invoices(after: $s) { totalCount } } } }",
    "query($s: String!) { __type(name: $s) { name } }",
    "query($b: Boolean!) { viewer { user { id @include(if: $b) email } } }",
    "query($b: Boolean = true) { viewer { user { id @skip(if: $b) email } } }",
    "query($b: Boolean!) { viewer { ... @include(if: $b) { user { id } } ...f @skip(if: $b) } } fragment f on Viewer { user { email } }",
    "mutation($i: CreateProjectInput!) { createProject(input: $i) { project { id } } }",
    "mutation($s: String!) { createProject(input: { name: $s, organizationId: \"org_1\" }) { project { id } } }",
    "mutation($s: String) { createProject(input: { name: \"a\", organizationId: \"org_1\", description: $s }) { project { id } } }",
];

/// Sends each set of variables after each set, with and without the cache, and compares the errors.
#[test]
fn a_cached_document_gets_the_same_errors_as_a_new_one() {
    let (new, tenant) = (Service::new(0), TenantId::generate());
    let (mut accepted, mut rejected) = (0, 0);
    for text in DOCUMENTS_WITH_VARIABLES {
        let sets = sets_of_variables(text);
        for first in &sets {
            let cached = Service::new(MIB);
            let primed = cached.send_named(tenant, text, None, first);
            for second in &sets {
                let expected = new.send_named(tenant, text, None, second);
                let sent = cached.send_named(tenant, text, None, second);
                match expected {
                    Ok(_) => {
                        accepted += 1;
                        assert!(sent.is_ok(), "{text} {first} {second}: {sent:?}");
                        let again = cached.send_named(tenant, text, None, second);
                        assert_eq!(again, Ok(true), "{text} {first} {second}");
                    }
                    Err(errors) => {
                        rejected += 1;
                        assert_eq!(sent, Err(errors), "{text} {first} {second}");
                    }
                }
            }
            let stored = usize::from(cached.count(tenant) > 0);
            assert!(primed.is_err() || stored == 1, "{text} {first}");
        }
    }
    assert!(accepted > 100 && rejected > 100, "{accepted} {rejected}");
}

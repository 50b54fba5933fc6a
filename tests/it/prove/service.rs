//! The proof for the service of this repository, field by field.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::{
    auth::role::UserRole,
    prove::{
        self, ProveError, Settings,
        report::{Format, Problem},
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

use super::{assert_isolated, field, settings, tenants};
use crate::harness::{FieldExt as _, Kind, TestApp, model, palisade_test};

#[apply(palisade_test)]
async fn no_field_reveals_anything_of_another_tenant(app: &'static TestApp) {
    let (a, b) = tenants(app).await;
    let before = (a.everything().await, b.everything().await);
    let settings = Settings {
        samples: 5,
        ..settings(a.owner(), b.owner(), &[])
    };
    let report = prove::run(settings).await.unwrap();
    println!("{}", report.print(Format::Text));
    assert_isolated(&report);
    assert_eq!((a.everything().await, b.everything().await), before);

    let queries = model()
        .queries()
        .iter()
        .map(|field| format!("Query.{}", field.name));
    let mutations = model().mutations().iter();
    let mutations = mutations.map(|field| format!("Mutation.{}", field.name));
    let below = model()
        .nested_lists()
        .map(|(of, list)| format!("{}.{}", of.name, list.name));
    for name in queries.chain(mutations).chain(below) {
        assert!(field(&report, &name).attacks > 0, "{name} was not attacked");
    }
    let attacks = |name: &str| field(&report, name).attacks;
    // One attack at least for each type of id, and one for each type with the UUID of each other type.
    let types = model().named("Node").members.len();
    for name in ["Query.node", "Query.nodes", "Query.project"] {
        assert!(attacks(name) >= types * types, "{name}: {}", attacks(name));
    }
    assert!(
        report.attacks() > 2_000,
        "only {} attacks",
        report.attacks()
    );
    let timed: BTreeSet<&str> = report
        .fields
        .iter()
        .filter(|field| field.timing.is_some())
        .map(|field| field.name.as_str())
        .collect();
    assert!(timed.contains("Query.node") && timed.contains("Mutation.updateProject"));
    assert!(timed.len() > 30, "{timed:?}");
}

#[apply(palisade_test)]
async fn every_id_in_the_input_of_a_mutation_is_attacked_alone(app: &'static TestApp) {
    fn ids(of: &str) -> usize {
        let count = |field: &crate::harness::Field| match model().kind(&field.type_name) {
            Kind::Input => ids(&field.type_name),
            _ => usize::from(field.type_name == "ID"),
        };
        model().fields(of).iter().map(count).sum()
    }
    let (a, b) = tenants(app).await;
    let mutations: Vec<&str> = model()
        .mutations()
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    let some: Vec<&str> = mutations.into_iter().step_by(3).collect();
    let report = prove::run(settings(a.owner(), b.owner(), &some))
        .await
        .unwrap();
    assert_isolated(&report);
    for name in some {
        let attacks = field(&report, &format!("Mutation.{name}")).attacks;
        let ids = ids(model().mutation(name).input());
        assert!(attacks >= ids, "{name}: {attacks} attacks, {ids} ids");
    }
}

#[apply(palisade_test)]
async fn the_schema_can_come_from_a_file(app: &'static TestApp) {
    let (a, b) = tenants(app).await;
    let fields = ["Query.project", "Project.comments", "archiveProject"];
    let from_service = settings(a.owner(), b.owner(), &fields);
    let from_file = Settings {
        sdl: Some(palisade::api::sdl()),
        ..from_service.clone()
    };
    let (one, other) = (
        prove::run(from_service).await.unwrap(),
        prove::run(from_file).await.unwrap(),
    );
    assert_isolated(&one);
    assert_isolated(&other);
    let attacks = |report: &prove::report::Report| -> Vec<(String, usize)> {
        let fields = report.fields.iter();
        fields
            .map(|field| (field.name.clone(), field.attacks))
            .collect()
    };
    assert_eq!(attacks(&one), attacks(&other));
    assert_eq!(one.fields.len(), 3);
    assert_eq!(one.checksum, other.checksum);

    let json: Value = serde_json::from_str(&one.print(Format::Json)).unwrap();
    assert_eq!(json["findings"], 0);
    assert_eq!(json["attacks"], one.attacks());
    assert_eq!(json["fields"][0]["field"], "Query.project");
    assert_eq!(json["fields"][0]["result"], "ok");
}

#[apply(palisade_test)]
async fn what_proves_nothing_is_an_error(app: &'static TestApp) {
    let (a, b) = tenants(app).await;
    let fields = ["project"];
    let same = prove::run(settings(a.owner(), a.owner(), &fields)).await;
    assert!(matches!(same, Err(ProveError::SameTenant)), "{same:?}");
    let mut without_token = settings(a.owner(), b.owner(), &fields);
    without_token.token_b = "no token".to_owned().into();
    let invalid = prove::run(without_token).await;
    assert!(matches!(invalid, Err(ProveError::Token(_))), "{invalid:?}");
    let viewer = a.caller(UserRole::Viewer);
    let blind = prove::run(settings(viewer, b.owner(), &fields)).await;
    assert!(
        matches!(blind, Err(ProveError::Unreadable { .. })),
        "{blind:?}"
    );

    // A field that cannot be attacked is a finding.
    let sdl = palisade::api::sdl();
    let strange = sdl.replace(
        "type Query {",
        "scalar Strange\ntype Query {\n\tstrange(by: Strange!): String\n",
    );
    let unknown = Settings {
        sdl: Some(strange),
        ..settings(a.owner(), b.owner(), &["strange"])
    };
    let report = prove::run(unknown).await.unwrap();
    let finding = &field(&report, "Query.strange").findings[0];
    assert!(
        finding.detail.contains("scalar Strange"),
        "{}",
        finding.detail
    );
}

#[apply(palisade_test)]
async fn a_field_without_a_row_of_a_is_not_proved(app: &'static TestApp) {
    // The tenants have users and nothing else.
    let (a, b) = (app.tenant().await, app.tenant().await);
    let fields = ["project", "user"];
    let report = prove::run(settings(a.owner(), b.owner(), &fields))
        .await
        .unwrap();
    let finding = &field(&report, "Query.project").findings[0];
    assert_eq!(finding.problem, Problem::NotAttacked);
    assert!(
        finding.detail.contains("accepts no type of id"),
        "{}",
        finding.detail
    );
    assert!(field(&report, "Query.user").findings.is_empty());
}

#[apply(palisade_test)]
async fn a_tenant_in_which_others_write_is_an_error(app: &'static TestApp) {
    let (a, b) = tenants(app).await;
    let create = "mutation($name: String!) { createOrganization(input: { name: $name }) { userErrors { code } } }";
    let admin = a.caller(UserRole::Admin).clone();
    let writer = tokio::spawn(async move {
        loop {
            let name = json!({ "name": Uuid::now_v7() });
            admin.graphql(create, name).await.data();
        }
    });
    let result = prove::run(settings(a.owner(), b.owner(), &["organization"])).await;
    writer.abort();
    assert!(matches!(result, Err(ProveError::InUse(_))), "{result:?}");
}

/// Passes bytes on to a service, without the preference for a dry run. Returns the URL for clients.
async fn proxy_without_preference(url: &str) -> String {
    let target = url
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/graphql")
        .unwrap()
        .to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut service = TcpStream::connect(&target).await.unwrap();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.split();
                let (mut from_service, mut to_service) = service.split();
                let requests = async {
                    let mut bytes = vec![0; 1024 * 1024];
                    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                        let text =
                            String::from_utf8_lossy(&bytes[..count]).replace("prefer:", "ignore:");
                        to_service.write_all(text.as_bytes()).await.unwrap();
                    }
                };
                tokio::select! {
                    () = requests => {}
                    _ = tokio::io::copy(&mut from_service, &mut to_client) => {}
                }
            });
        }
    });
    format!("http://{address}/graphql")
}

#[apply(palisade_test)]
async fn a_service_that_would_really_write_gets_no_mutation_with_ids_of_rows(
    app: &'static TestApp,
) {
    let (a, b) = tenants(app).await;
    let before = (a.everything().await, b.everything().await);
    let url = proxy_without_preference(&app.url).await;
    let (owner_of_a, owner_of_b) = (a.owner().at(&url), b.owner().at(&url));
    let fields = ["Query.currencies", "deleteProject"];
    let result = prove::run(settings(&owner_of_a, &owner_of_b, &fields)).await;
    assert!(
        matches!(result, Err(ProveError::NotDryRun(_))),
        "{result:?}"
    );
    assert_eq!((a.everything().await, b.everything().await), before);
}

//! Money is exact: a stored amount is returned unchanged, an amount with too many digits is rejected, and a
//! computed amount is rounded once, half away from zero.

use std::path::{Path, PathBuf};

use macro_rules_attribute::apply;
use serde_json::{Value, json};

use crate::{
    create::{self, asin, fingerprint, read},
    harness::{Caller, Tenant, mutation, palisade_test, user_errors},
};

/// An input for an invoice in a currency. Each line has a quantity, a unit price and a tax rate.
fn invoice_of(organization: &str, currency: &str, lines: &[(&str, &str, Option<&str>)]) -> Value {
    let line = |(quantity, price, tax): &(&str, &str, Option<&str>)| json!({ "description": "d", "quantity": quantity, "unitPrice": price, "taxRate": tax });
    let lines: Vec<Value> = lines.iter().map(line).collect();
    json!({ "organizationId": organization, "currencyCode": currency, "lineItems": lines })
}

#[apply(palisade_test)]
async fn an_amount_is_returned_as_written_with_the_digits_of_its_currency(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    for (currency, written, shown) in [
        ("EUR", "19.99", "19.99"),
        ("EUR", "0", "0.00"),
        ("EUR", "-0", "0.00"),
        ("EUR", "0.01", "0.01"),
        ("EUR", "1.5", "1.50"),
        ("EUR", "1.50000", "1.50"),
        ("EUR", "0001.50", "1.50"),
        ("EUR", "10000000000000.00", "10000000000000.00"),
        ("EUR", "92233720368547758.07", "92233720368547758.07"),
        ("EUR", "-0.01", "-0.01"),
        ("EUR", "-92233720368547758.07", "-92233720368547758.07"),
        ("JPY", "500", "500"),
        ("JPY", "500.0", "500"),
        ("JPY", "1000000000000000", "1000000000000000"),
        ("KWD", "0.001", "0.001"),
        ("KWD", "1.5", "1.500"),
        ("KWD", "1000000000000.000", "1000000000000.000"),
    ] {
        let money = json!({ "amount": shown, "currencyCode": currency });
        let input = invoice_of(&organization, currency, &[("1", written, None)]);
        let whole = "total { amount currencyCode } lineItems { nodes {
            unitPrice { amount currencyCode } amount { amount currencyCode } } }";
        let payload = owner
            .mutate_ok("createInvoice", input, &format!("invoice {{ id {whole} }}"))
            .await;
        let id = payload["invoice"]["id"].as_str().unwrap();
        let expected = json!({
            "total": money,
            "lineItems": { "nodes": [{ "unitPrice": money, "amount": money }] },
        });
        assert_eq!(
            read(owner, "invoice", id, whole).await,
            expected,
            "{written}"
        );

        let price = json!({ "amount": written, "currencyCode": currency });
        let input = json!({ "asin": asin(), "price": price });
        let selection = "product { price { amount currencyCode } }";
        let payload = owner.mutate("createProduct", input, selection).await;
        if written.starts_with('-') && shown != "0.00" {
            let expected = [("TOO_SMALL", "input.price.amount".to_owned())];
            assert_eq!(user_errors(&payload), expected, "{written}");
        } else {
            assert_eq!(payload["product"]["price"], money, "{payload}");
        }
    }
}

#[apply(palisade_test)]
async fn an_amount_with_more_digits_than_its_currency_is_rejected_and_not_rounded(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let draft = create::draft(owner, &organization, &["1.00"]).await;
    let line = create::line(owner, &draft).await;
    let before = fingerprint(&acme).await;
    for (currency, written, code) in [
        ("EUR", "1.005", "INVALID"),
        ("EUR", "-0.001", "INVALID"),
        ("EUR", "0.0000000000000000000000000001", "INVALID"),
        ("JPY", "0.5", "INVALID"),
        ("KWD", "0.0001", "INVALID"),
        ("EUR", "92233720368547758.08", "TOO_LARGE"),
        ("EUR", "-92233720368547758.09", "TOO_LARGE"),
        ("JPY", "9223372036854775808", "TOO_LARGE"),
        ("KWD", "79228162514264337593543950335", "TOO_LARGE"),
    ] {
        let input = invoice_of(
            &organization,
            currency,
            &[("1", "1", None), ("1", written, None)],
        );
        let payload = owner.mutate("createInvoice", input, "").await;
        let expected = [(code, "input.lineItems.1.unitPrice".to_owned())];
        assert_eq!(user_errors(&payload), expected, "{written} {currency}");

        let price = json!({ "amount": written, "currencyCode": currency });
        let input = json!({ "asin": asin(), "price": price });
        let payload = owner.mutate("createProduct", input, "").await;
        let found = user_errors(&payload);
        assert!(
            found.contains(&(code, "input.price.amount".to_owned())) || written.starts_with('-'),
            "{written} {currency}: {found:?}"
        );
        if currency == "EUR" {
            let input = json!({ "id": line, "unitPrice": written });
            let payload = owner.mutate("updateInvoiceLineItem", input, "").await;
            assert_eq!(
                user_errors(&payload),
                [(code, "input.unitPrice".to_owned())]
            );
        }
    }
    assert!(fingerprint(&acme).await == before);
}

#[apply(palisade_test)]
async fn a_decimal_is_a_string_of_at_most_28_digits_and_nothing_else(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let before = fingerprint(&acme).await;
    let document = mutation("createInvoice", "invoice { id }");
    for value in [
        json!(1.5),
        json!(5),
        json!(true),
        json!(["1"]),
        json!(""),
        json!("abc"),
        json!(" 1"),
        json!("1 "),
        json!("1e3"),
        json!("1,5"),
        json!("1_000"),
        json!("1.2.3"),
        json!("--1"),
        json!("0x10"),
        json!("NaN"),
        json!("Infinity"),
        json!("١"),
        // 29 digits after the decimal point, and more digits before it than can be stored.
        json!("0.12345678901234567890123456789"),
        json!("1.00000000000000000000000000005"),
        json!("99999999999999999999999999999.9"),
    ] {
        for field in ["quantity", "unitPrice", "taxRate"] {
            let mut input = invoice_of(&organization, "EUR", &[("1", "1", Some("0.1"))]);
            input["lineItems"][0][field] = value.clone();
            let variables = json!({ "input": input });
            let response = owner.send(&document, &variables, &[]).await.response();
            assert_eq!(
                response.code(),
                "BAD_USER_INPUT",
                "{value} {}",
                response.body
            );
            assert!(response.body["data"].is_null());
        }
    }
    for literal in ["1.5", "5", "EUR"] {
        let document = format!(
            "mutation {{ createProduct(input: {{ asin: \"{}\", price: {{ amount: {literal}, currencyCode: \"EUR\" }} }}) {{
                product {{ id }} }} }}",
            asin()
        );
        let response = owner.query(&document).await;
        assert!(!response.code().is_empty(), "{literal} {}", response.body);
        assert!(
            response.body["data"].is_null(),
            "{literal} {}",
            response.body
        );
    }
    assert!(fingerprint(&acme).await == before);
}

async fn rejected_as_too_large(caller: &Caller, name: &str, input: Value) {
    let payload = caller.mutate(name, input.clone(), "").await;
    let found = user_errors(&payload);
    assert_eq!(found, [("TOO_LARGE", String::new())], "{name} {input}");
}

#[apply(palisade_test)]
async fn amounts_that_cannot_be_stored_are_too_large_and_nothing_is_written(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let input = invoice_of(&organization, "EUR", &[("1", "90000000000000000.00", None)]);
    let selection = "invoice { id lineItems { nodes { id } } }";
    let payload = owner.mutate_ok("createInvoice", input, selection).await;
    let id = &payload["invoice"]["id"];
    let line = &payload["invoice"]["lineItems"]["nodes"][0]["id"];
    let before = fingerprint(&acme).await;

    let max = "92233720368547758.07";
    for lines in [
        // The amount of a line is too large, positive or negative.
        &[("9999999999.9999", max, None)][..],
        &[("-9999999999.9999", max, None)],
        &[("2", max, None)],
        // The sum of the lines is too large.
        &[("1", max, None), ("1", "0.01", None)],
        // The total with the tax is too large.
        &[("1", max, Some("0.0001"))],
        &[("1", "50000000000000000", Some("1"))],
    ] {
        let input = invoice_of(&organization, "EUR", lines);
        rejected_as_too_large(owner, "createInvoice", input).await;
    }
    let mut added = create::line_of("90000000000000000.00");
    added["invoiceId"] = id.clone();
    rejected_as_too_large(owner, "addInvoiceLineItem", added.clone()).await;
    added["quantity"] = json!("9999999999");
    rejected_as_too_large(owner, "addInvoiceLineItem", added).await;
    for change in [
        json!({ "quantity": "2" }),
        json!({ "quantity": "-9999999999" }),
        json!({ "quantity": "1.5", "unitPrice": max }),
        json!({ "taxRate": "1" }),
    ] {
        let mut input = change;
        input["id"] = line.clone();
        rejected_as_too_large(owner, "updateInvoiceLineItem", input).await;
    }
    assert!(fingerprint(&acme).await == before);
}

#[apply(palisade_test)]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn each_line_and_its_tax_are_rounded_half_away_from_zero(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let whole = "invoice { subtotal { amount } tax { amount } total { amount }
                 lineItems { nodes { amount { amount } } } }";
    // Each case: the currency, the lines, the expected amounts of the lines, and the expected subtotal, tax and total.
    for (currency, lines, amounts, sums) in [
        (
            "EUR",
            &[("0.5", "0.01", None)][..],
            &["0.01"][..],
            ["0.01", "0.00", "0.01"],
        ),
        (
            "EUR",
            &[("0.4999", "0.01", None)],
            &["0.00"],
            ["0.00", "0.00", "0.00"],
        ),
        (
            "EUR",
            &[("-0.5", "0.01", None)],
            &["-0.01"],
            ["-0.01", "0.00", "-0.01"],
        ),
        (
            "EUR",
            &[("0.5", "-0.01", None)],
            &["-0.01"],
            ["-0.01", "0.00", "-0.01"],
        ),
        (
            "EUR",
            &[("2.5", "3.33", None)],
            &["8.33"],
            ["8.33", "0.00", "8.33"],
        ),
        // Rounding half to even would give 2 for both.
        (
            "JPY",
            &[("1.5", "1", None), ("2.5", "1", None)],
            &["2", "3"],
            ["5", "0", "5"],
        ),
        (
            "KWD",
            &[("0.0005", "1", None)],
            &["0.001"],
            ["0.001", "0.000", "0.001"],
        ),
        // The tax is rounded for each line: three times 0.005 gives 0.03. Rounded once for the sum, it would be 0.02.
        (
            "EUR",
            &[
                ("1", "0.05", Some("0.1")),
                ("1", "0.05", Some("0.1")),
                ("1", "0.05", Some("0.1")),
            ],
            &["0.05", "0.05", "0.05"],
            ["0.15", "0.03", "0.18"],
        ),
        (
            "EUR",
            &[("1", "-0.05", Some("0.1"))],
            &["-0.05"],
            ["-0.05", "-0.01", "-0.06"],
        ),
        // The tax is computed from the rounded amount of the line.
        (
            "EUR",
            &[("0.5", "0.09", Some("0.1"))],
            &["0.05"],
            ["0.05", "0.01", "0.06"],
        ),
        (
            "EUR",
            &[
                ("3", "19.99", Some("0.19")),
                ("1", "100.00", None),
                ("1", "10", Some("0")),
            ],
            &["59.97", "100.00", "10.00"],
            ["169.97", "11.39", "181.36"],
        ),
        (
            "EUR",
            &[("0", "5.00", Some("1"))],
            &["0.00"],
            ["0.00", "0.00", "0.00"],
        ),
    ] {
        let input = invoice_of(&organization, currency, lines);
        let payload = owner.mutate_ok("createInvoice", input, whole).await;
        let invoice = &payload["invoice"];
        let found: Vec<&str> = invoice["lineItems"]["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["amount"]["amount"].as_str().unwrap())
            .collect();
        assert_eq!(found, amounts, "{lines:?}");
        let read = ["subtotal", "tax", "total"].map(|sum| invoice[sum]["amount"].as_str().unwrap());
        assert_eq!(read, sums, "{lines:?}");
    }
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            into.push(path);
        }
    }
}

#[test]
fn no_code_for_money_uses_binary_floating_point() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let shared = [
        "graphql/scalars.rs",
        "graphql/checks.rs",
        "db/write.rs",
        "db/bulk.rs",
    ];
    let mut files: Vec<PathBuf> = shared.iter().map(|path| src.join(path)).collect();
    for slice in ["invoices", "products"] {
        sources(&src.join(slice), &mut files);
    }
    assert!(files.len() >= 9, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut words = text.split(|c: char| !c.is_alphanumeric());
        let found = words.find(|word| ["f32", "f64"].iter().any(|float| word.ends_with(float)));
        assert_eq!(found, None, "{}", file.display());
    }
}

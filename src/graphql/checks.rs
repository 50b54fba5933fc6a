//! Checks of the values in a mutation's input.
//!
//! The invariant: **all failures are reported at once.** The constraints of the database have the same limits, but a
//! statement reports only the first violation, and not whether the value is too small or too large. Therefore
//! everything that can be checked before the statement is checked here.

use async_graphql::MaybeUndefined;

use super::scalars::{AmountError, CurrencyCode, MoneyInput, UNSUPPORTED_CURRENCY};
use crate::{
    db::write_error::WriteError,
    user_error::{UserError, UserErrorCode},
};

/// Collects the failures of an input.
#[derive(Debug, Default)]
pub struct Checks(Vec<UserError>);

impl Checks {
    /// Creates the checks of an input, without failures.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reports a failure unless the condition holds.
    pub fn require(
        &mut self,
        holds: bool,
        code: UserErrorCode,
        field: &str,
        message: impl Into<String>,
    ) {
        if !holds {
            self.0.push(UserError::new(code, field, message));
        }
    }

    /// Requires a string of 1 to `max` characters. Rejects a string of only white space (Unicode's `White_Space`), and
    /// the character U+0000, which PostgreSQL cannot store.
    pub fn text(&mut self, field: &str, text: &str, max: usize) {
        let is_blank = text.trim().is_empty();
        self.require(!is_blank, UserErrorCode::Required, field, "is blank");
        self.storable(field, text, max);
    }

    /// If there is a string, requires at most `max` characters and no U+0000.
    pub fn optional_text(&mut self, field: &str, text: Option<&String>, max: usize) {
        if let Some(text) = text {
            self.storable(field, text, max);
        }
    }

    fn storable(&mut self, field: &str, text: &str, max: usize) {
        let is_short = text.chars().count() <= max;
        let message = format!("is longer than {max} characters");
        self.require(is_short, UserErrorCode::TooLong, field, message);
        let has_nul = text.contains('\0');
        let message = "contains the character U+0000";
        self.require(!has_nul, UserErrorCode::Invalid, field, message);
    }

    /// Rejects null for a field that cannot be cleared. Returns the new value, if there is one.
    pub fn not_cleared<'v, T>(
        &mut self,
        field: &str,
        value: &'v MaybeUndefined<T>,
    ) -> Option<&'v T> {
        let message = "cannot be cleared: omit it to keep the current value";
        self.require(!value.is_null(), UserErrorCode::Required, field, message);
        value.value()
    }

    /// Checks the new value of a string that cannot be cleared, like [`Checks::text`].
    pub fn text_if_present(&mut self, field: &str, text: &MaybeUndefined<String>, max: usize) {
        if let Some(text) = self.not_cleared(field, text) {
            self.text(field, text, max);
        }
    }

    /// Reports the failure of a conversion to minor units. Returns the amount if there is one.
    pub fn amount(&mut self, field: &str, amount: Result<i64, AmountError>) -> Option<i64> {
        amount
            .inspect_err(|error| self.require(false, error.code(), field, error.to_string()))
            .ok()
    }

    /// Checks that a currency is supported. Returns whether it is.
    pub fn currency(&mut self, field: &str, currency: &CurrencyCode) -> bool {
        let is_supported = currency.is_supported();
        let code = AmountError::UnknownCurrency.code();
        self.require(is_supported, code, field, UNSUPPORTED_CURRENCY);
        is_supported
    }

    /// Checks an amount of money. Returns it in minor units.
    pub fn money(&mut self, field: &str, money: &MoneyInput) -> Option<i64> {
        let amount = money.amount.to_minor_units(&money.currency_code);
        let part = match amount {
            Err(AmountError::UnknownCurrency) => "currencyCode",
            _ => "amount",
        };
        self.amount(&format!("{field}.{part}"), amount)
    }

    /// Adds failures of another check.
    pub fn extend(&mut self, failures: impl IntoIterator<Item = UserError>) {
        self.0.extend(failures);
    }

    /// The failures.
    #[must_use]
    pub fn into_failures(self) -> Vec<UserError> {
        self.0
    }

    /// Fails with all failures, if there are any.
    pub fn finish<T>(self) -> Result<(), WriteError<T>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(WriteError::Rejected(self.0, None))
        }
    }
}

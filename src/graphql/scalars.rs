//! The scalars of the API, timestamps, and money.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use async_graphql::{
    InputObject, InputType, InputValueError, InputValueResult, Scalar, ScalarType, SimpleObject,
    Value as GraphqlValue, registry::Registry,
};
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};

use crate::user_error::UserErrorCode;

/// The years of the dates and times that a client may send: years with four digits (RFC 3339, 1).
const YEARS: RangeInclusive<i32> = 1..=9999;

/// A date without a time, in the format `YYYY-MM-DD`, from year 0001 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct Date(pub NaiveDate);

impl Date {
    /// Parses a date in exactly the format `YYYY-MM-DD`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let date: NaiveDate = text.parse().ok()?;
        // The parser of chrono also accepts signs, spaces and missing zeros.
        let is_exact = YEARS.contains(&date.year()) && date.to_string() == text;
        is_exact.then_some(Self(date))
    }
}

/// A date without a time, in the format `YYYY-MM-DD`, from year 0001 to 9999.
#[Scalar]
impl ScalarType for Date {
    fn parse(value: GraphqlValue) -> InputValueResult<Self> {
        match &value {
            GraphqlValue::String(text) => Self::read(text).ok_or_else(|| {
                InputValueError::custom("must be a valid date in the format YYYY-MM-DD")
            }),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> GraphqlValue {
        GraphqlValue::String(self.0.to_string())
    }
}

/// A timestamp that a client sent, from year 0001 to 9999. Its GraphQL type is `DateTime`.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// Creates a timestamp if its year in UTC is from 1 to 9999.
    #[must_use]
    pub fn new(time: DateTime<Utc>) -> Option<Self> {
        YEARS.contains(&time.year()).then_some(Self(time))
    }

    /// The timestamp in UTC.
    #[must_use]
    pub fn time(self) -> DateTime<Utc> {
        self.0
    }
}

impl InputType for Timestamp {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        <DateTime<Utc> as InputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <DateTime<Utc> as InputType>::create_type_info(registry)
    }

    fn parse(value: Option<GraphqlValue>) -> InputValueResult<Self> {
        let time =
            <DateTime<Utc> as InputType>::parse(value).map_err(InputValueError::propagate)?;
        Self::new(time).ok_or_else(|| InputValueError::custom("must be from year 0001 to 9999"))
    }

    fn to_value(&self) -> GraphqlValue {
        InputType::to_value(&self.0)
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }
}

/// A decimal number as a string, such as `"9.95"`, so that no client rounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent)]
pub struct Decimal(pub rust_decimal::Decimal);

/// A decimal number as a string, such as `"9.95"`, so that no client rounds it.
#[Scalar]
impl ScalarType for Decimal {
    fn parse(value: GraphqlValue) -> InputValueResult<Self> {
        match &value {
            // `FromStr` rounds numbers with more than 28 digits. Both parsers accept underscores.
            GraphqlValue::String(text) => rust_decimal::Decimal::from_str_exact(text)
                .ok()
                .filter(|_| !text.contains('_'))
                .map(Self)
                .ok_or_else(|| {
                    InputValueError::custom(
                        "must consist of digits and a decimal point, such as \"9.95\"",
                    )
                }),
            GraphqlValue::Number(number) => Err(InputValueError::custom(format!(
                "must be a string, so that no client rounds it: \"{number}\""
            ))),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> GraphqlValue {
        GraphqlValue::String(self.0.to_string())
    }
}

/// The message for a currency that is not supported.
pub const UNSUPPORTED_CURRENCY: &str = "is not a supported currency";

/// The supported currencies. The table `currencies` has the same, and a test compares the two. The checks need the list
/// without a statement: a bulk mutation reports each invalid row, and a violated foreign key would fail all rows.
const CURRENCIES: [&str; 48] = [
    "AED", "ARS", "AUD", "BHD", "BRL", "CAD", "CHF", "CLP", "CNY", "COP", "CZK", "DKK", "EGP",
    "EUR", "GBP", "HKD", "HUF", "IDR", "ILS", "INR", "ISK", "JOD", "JPY", "KES", "KRW", "KWD",
    "MXN", "MYR", "NGN", "NOK", "NZD", "OMR", "PEN", "PHP", "PLN", "QAR", "RON", "SAR", "SEK",
    "SGD", "THB", "TND", "TRY", "TWD", "UAH", "USD", "VND", "ZAR",
];

/// An ISO 4217 currency code, such as `EUR`. The query `currencies` lists the supported ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct CurrencyCode(String);

impl CurrencyCode {
    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the API supports amounts in this currency.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        CURRENCIES.contains(&self.0.as_str())
    }

    /// The number n of decimal places (ISO 4217): the database stores amounts in units of 10^-n. The table `currencies`
    /// has the same numbers; a test compares the two.
    #[must_use]
    pub fn minor_digits(&self) -> u32 {
        iso_currency::Currency::from_code(&self.0)
            .and_then(iso_currency::Currency::exponent)
            .map_or(2, u32::from)
    }
}

impl From<&str> for CurrencyCode {
    fn from(code: &str) -> Self {
        Self(code.to_owned())
    }
}

impl fmt::Display for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An ISO 4217 currency code, such as `EUR`. The query `currencies` lists the supported ones.
#[Scalar]
impl ScalarType for CurrencyCode {
    fn parse(value: GraphqlValue) -> InputValueResult<Self> {
        match value {
            GraphqlValue::String(code)
                if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) =>
            {
                Ok(Self(code))
            }
            _ => Err(InputValueError::custom("must be three upper-case letters")),
        }
    }

    fn to_value(&self) -> GraphqlValue {
        GraphqlValue::String(self.0.clone())
    }
}

/// An amount of money to set.
#[derive(Clone, Debug, PartialEq, Eq, InputObject)]
pub struct MoneyInput {
    /// The amount in units of the currency, with at most as many decimal places as the currency has.
    pub amount: Decimal,
    /// The currency of the amount.
    pub currency_code: CurrencyCode,
}

/// The reason why an amount cannot be converted to minor units.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The table `currencies` does not contain the currency.
    #[error("{UNSUPPORTED_CURRENCY}")]
    UnknownCurrency,
    /// The amount has more decimal places than the currency.
    #[error("must have at most {digits} decimal places in {currency}")]
    TooManyDigits {
        /// The decimal places of the currency.
        digits: u32,
        /// The currency.
        currency: CurrencyCode,
    },
    /// The amount in minor units does not fit its column.
    #[error("is too large")]
    TooLarge,
}

impl AmountError {
    /// The code of the user error.
    #[must_use]
    pub fn code(&self) -> UserErrorCode {
        match self {
            Self::UnknownCurrency | Self::TooManyDigits { .. } => UserErrorCode::Invalid,
            Self::TooLarge => UserErrorCode::TooLarge,
        }
    }
}

impl Decimal {
    /// Converts an amount of a currency to minor units.
    pub fn to_minor_units(self, currency: &CurrencyCode) -> Result<i64, AmountError> {
        if !currency.is_supported() {
            return Err(AmountError::UnknownCurrency);
        }
        let digits = currency.minor_digits();
        let amount = self.0.normalize();
        if amount.scale() > digits {
            let currency = currency.clone();
            return Err(AmountError::TooManyDigits { digits, currency });
        }
        amount
            .checked_mul(rust_decimal::Decimal::from(10_i64.pow(digits)))
            .and_then(|minor| i64::try_from(minor).ok())
            .ok_or(AmountError::TooLarge)
    }
}

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject)]
pub struct Money {
    /// The amount in units of the currency, with as many decimal places as the currency has.
    pub amount: Decimal,
    /// The currency of the amount.
    pub currency_code: CurrencyCode,
}

super::json::plain_fields!(Money {
    amount,
    currency_code
});

impl Money {
    /// Creates the amount from a number of minor units, as the database stores it.
    #[must_use]
    pub fn from_minor(minor: i64, currency: &CurrencyCode) -> Self {
        Self {
            amount: Decimal(rust_decimal::Decimal::new(minor, currency.minor_digits())),
            currency_code: currency.clone(),
        }
    }
}

impl crate::db::filter::Column for Date {
    const KIND: crate::db::filter::Kind = crate::db::filter::Kind::Date;

    fn value(&self) -> Option<crate::db::filter::Value> {
        Some(crate::db::filter::Value::Date(self.0))
    }
}

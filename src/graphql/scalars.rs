//! The scalars of the API and the types that ids, money and dates have in it.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use async_graphql::{
    InputObject, InputType, InputValueError, InputValueResult, Scalar, ScalarType, SimpleObject,
    Value as GraphqlValue, registry::Registry,
};
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};

use crate::user_error::{Checks, UserErrorCode};

/// The years of the dates and times that a client may send: those of four digits (RFC 3339, 1).
const YEARS: RangeInclusive<i32> = 1..=9999;

/// A calendar date without a time of day, as `YYYY-MM-DD`, of the years 0001 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct Date(pub NaiveDate);

impl Date {
    /// Reads a date in exactly this form.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let date: NaiveDate = text.parse().ok()?;
        // What is read is less strict: signs, blanks and missing zeros pass.
        let is_exact = YEARS.contains(&date.year()) && date.to_string() == text;
        is_exact.then_some(Self(date))
    }
}

/// A calendar date without a time of day, as `YYYY-MM-DD`, of the years 0001 to 9999.
#[Scalar]
impl ScalarType for Date {
    fn parse(value: GraphqlValue) -> InputValueResult<Self> {
        match &value {
            GraphqlValue::String(text) => Self::read(text).ok_or_else(|| {
                InputValueError::custom("a date is a day of the calendar, written YYYY-MM-DD")
            }),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> GraphqlValue {
        GraphqlValue::String(self.0.to_string())
    }
}

/// A moment that a client sent, of the years 0001 to 9999. To clients its type is `DateTime`.
#[derive(Clone, Copy, Debug)]
pub struct Moment(DateTime<Utc>);

impl Moment {
    /// The moment, if it is of these years in UTC.
    #[must_use]
    pub fn new(time: DateTime<Utc>) -> Option<Self> {
        YEARS.contains(&time.year()).then_some(Self(time))
    }

    /// The moment in UTC.
    #[must_use]
    pub fn time(self) -> DateTime<Utc> {
        self.0
    }
}

impl InputType for Moment {
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
        Self::new(time)
            .ok_or_else(|| InputValueError::custom("a moment is of the years 0001 to 9999"))
    }

    fn to_value(&self) -> GraphqlValue {
        InputType::to_value(&self.0)
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }
}

/// A decimal number as text, so that no client rounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent)]
pub struct Decimal(pub rust_decimal::Decimal);

/// A decimal number as text, so that no client rounds it.
#[Scalar]
impl ScalarType for Decimal {
    fn parse(value: GraphqlValue) -> InputValueResult<Self> {
        match &value {
            // Exactly: the usual way of reading rounds what has more than 28 digits. Both ways pass over
            // underscores.
            GraphqlValue::String(text) => rust_decimal::Decimal::from_str_exact(text)
                .ok()
                .filter(|_| !text.contains('_'))
                .map(Self)
                .ok_or_else(|| {
                    InputValueError::custom("a decimal is digits and a point, such as \"9.95\"")
                }),
            GraphqlValue::Number(number) => Err(InputValueError::custom(format!(
                "a decimal is written as text, so that nobody rounds it: \"{number}\""
            ))),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> GraphqlValue {
        GraphqlValue::String(self.0.to_string())
    }
}

/// The currencies of the table `currencies`.
const CURRENCIES: [&str; 48] = [
    "AED", "ARS", "AUD", "BHD", "BRL", "CAD", "CHF", "CLP", "CNY", "COP", "CZK", "DKK", "EGP",
    "EUR", "GBP", "HKD", "HUF", "IDR", "ILS", "INR", "ISK", "JOD", "JPY", "KES", "KRW", "KWD",
    "MXN", "MYR", "NGN", "NOK", "NZD", "OMR", "PEN", "PHP", "PLN", "QAR", "RON", "SAR", "SEK",
    "SGD", "THB", "TND", "TRY", "TWD", "UAH", "USD", "VND", "ZAR",
];

/// A currency by its ISO 4217 code, such as `EUR`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct CurrencyCode(String);

impl CurrencyCode {
    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there are amounts of it. The same codes stand in the table `currencies`; a test compares
    /// them.
    #[must_use]
    pub fn is_known(&self) -> bool {
        CURRENCIES.contains(&self.0.as_str())
    }

    /// Digits after the decimal point (ISO 4217): the unit of a stored amount is 10^-n. The same
    /// numbers stand in the table `currencies`; a test compares them.
    #[must_use]
    pub fn minor_digits(&self) -> u32 {
        match self.0.as_str() {
            "CLP" | "ISK" | "JPY" | "KRW" | "VND" => 0,
            "BHD" | "JOD" | "KWD" | "OMR" | "TND" => 3,
            _ => 2,
        }
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

/// A currency by its ISO 4217 code, such as `EUR`.
#[Scalar]
impl ScalarType for CurrencyCode {
    fn parse(value: GraphqlValue) -> InputValueResult<Self> {
        match value {
            GraphqlValue::String(code)
                if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) =>
            {
                Ok(Self(code))
            }
            _ => Err(InputValueError::custom(
                "a currency is written as three capital letters",
            )),
        }
    }

    fn to_value(&self) -> GraphqlValue {
        GraphqlValue::String(self.0.clone())
    }
}

/// An amount of money, as it is given.
#[derive(Clone, Debug, PartialEq, Eq, InputObject)]
pub struct MoneyInput {
    /// The amount in units of the currency, as a decimal string with no more digits than the currency
    /// has.
    pub amount: Decimal,
    /// The currency.
    pub currency_code: CurrencyCode,
}

impl MoneyInput {
    /// The amount in minor units, if it is one; `field` is the path of this input.
    pub fn minor(&self, checks: &mut Checks, field: &str) -> Option<i64> {
        let currency = format!("{field}.currencyCode");
        let message = "is no currency of this API";
        let is_known = self.currency_code.is_known();
        checks.require(is_known, UserErrorCode::Invalid, &currency, message);
        if !is_known {
            return None;
        }
        self.amount
            .minor(&self.currency_code, checks, &format!("{field}.amount"))
    }
}

impl Decimal {
    /// An amount of a currency in its minor units, if it is one; `field` is the path of the input.
    pub fn minor(self, currency: &CurrencyCode, checks: &mut Checks, field: &str) -> Option<i64> {
        let digits = currency.minor_digits();
        let amount = self.0.normalize();
        let is_whole = amount.scale() <= digits;
        let message =
            format!("has more than {digits} digits after the point, which {currency} has not");
        checks.require(is_whole, UserErrorCode::Invalid, field, message);
        let minor = amount
            .checked_mul(rust_decimal::Decimal::from(10_i64.pow(digits)))
            .and_then(|minor| i64::try_from(minor).ok());
        checks.require(
            minor.is_some(),
            UserErrorCode::TooLarge,
            field,
            "is too large",
        );
        minor.filter(|_| is_whole)
    }
}

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject)]
pub struct Money {
    /// The amount in units of the currency, as a decimal string with the currency's digits.
    pub amount: Decimal,
    /// The currency.
    pub currency_code: CurrencyCode,
}

impl Money {
    /// An amount that is stored in minor units.
    #[must_use]
    pub fn from_minor(minor: i64, currency: &CurrencyCode) -> Self {
        Self {
            amount: Decimal(rust_decimal::Decimal::new(minor, currency.minor_digits())),
            currency_code: currency.clone(),
        }
    }
}

impl crate::db::page::Column for Date {
    const KIND: crate::db::page::Kind = crate::db::page::Kind::Date;

    fn value(&self) -> Option<crate::db::page::Value> {
        Some(crate::db::page::Value::Date(self.0))
    }
}

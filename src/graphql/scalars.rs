//! The scalars of the API and the types that ids, money and dates have in it.

use std::fmt;

use async_graphql::{
    InputValueError, InputValueResult, Scalar, ScalarType, SimpleObject, Value as GraphqlValue,
};
use chrono::NaiveDate;

/// A calendar date without a time of day, as `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct Date(pub NaiveDate);

/// A calendar date without a time of day, as `YYYY-MM-DD`.
#[Scalar]
impl ScalarType for Date {
    fn parse(value: GraphqlValue) -> InputValueResult<Self> {
        match &value {
            GraphqlValue::String(text) => NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .map(Self)
                .map_err(|_| InputValueError::custom("a date is written YYYY-MM-DD")),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> GraphqlValue {
        GraphqlValue::String(self.0.to_string())
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
            GraphqlValue::String(text) => text
                .parse()
                .map(Self)
                .map_err(|_| InputValueError::custom("a decimal is written as text, such as 9.95")),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> GraphqlValue {
        GraphqlValue::String(self.0.to_string())
    }
}

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

/// Gives an id type the GraphQL scalar `ID`, on both ways.
macro_rules! id_scalar {
    ($id:ident) => {
        impl async_graphql::InputType for $id {
            type RawValueType = Self;

            fn type_name() -> std::borrow::Cow<'static, str> {
                <async_graphql::ID as async_graphql::InputType>::type_name()
            }

            fn create_type_info(registry: &mut async_graphql::registry::Registry) -> String {
                <async_graphql::ID as async_graphql::InputType>::create_type_info(registry)
            }

            fn parse(value: Option<async_graphql::Value>) -> async_graphql::InputValueResult<Self> {
                match value {
                    Some(async_graphql::Value::String(text)) => {
                        text.parse().map_err(|error: $crate::ids::InvalidId| {
                            async_graphql::InputValueError::custom(error)
                        })
                    }
                    other => Err(async_graphql::InputValueError::expected_type(
                        other.unwrap_or_default(),
                    )),
                }
            }

            fn to_value(&self) -> async_graphql::Value {
                async_graphql::Value::String(self.to_string())
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }
        }

        impl async_graphql::OutputType for $id {
            fn type_name() -> std::borrow::Cow<'static, str> {
                <async_graphql::ID as async_graphql::OutputType>::type_name()
            }

            fn create_type_info(registry: &mut async_graphql::registry::Registry) -> String {
                <async_graphql::ID as async_graphql::OutputType>::create_type_info(registry)
            }

            async fn resolve(
                &self,
                _: &async_graphql::ContextSelectionSet<'_>,
                _: &async_graphql::Positioned<async_graphql::parser::types::Field>,
            ) -> async_graphql::ServerResult<async_graphql::Value> {
                Ok(async_graphql::Value::String(self.to_string()))
            }
        }

        impl $crate::db::page::Column for $id {
            const KIND: $crate::db::page::Kind = $crate::db::page::Kind::Uuid;

            fn value(&self) -> Option<$crate::db::page::Value> {
                Some($crate::db::page::Value::Uuid($crate::ids::EntityId::uuid(
                    *self,
                )))
            }
        }
    };
}
pub(crate) use id_scalar;

impl crate::db::page::Column for Date {
    const KIND: crate::db::page::Kind = crate::db::page::Kind::Date;

    fn value(&self) -> Option<crate::db::page::Value> {
        Some(crate::db::page::Value::Date(self.0))
    }
}

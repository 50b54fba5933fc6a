//! Lists as Relay connections: their arguments, their cursors, their pages.

use std::{borrow::Cow, sync::Arc};

use async_graphql::{
    Context, Enum, InputType, InputValueResult, Object as GraphqlObject, OutputType, SimpleObject,
    TypeName,
    registry::{MetaInputValue, Registry},
    resolver_utils::ContainerType,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::DateTime;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    context::ContextExt as _,
    filter::FilterInput,
    generic_input::{self, Fields},
    object::{Object, Objects},
    scalars::{Date, Moment},
};
use crate::{
    db::{
        load::Loaders,
        page::{
            self, COUNT_CAP, CountOf, DEFAULT_PAGE, Keyed, Kind, List, MAX_PAGE, Of, Page,
            Position, Term, Value,
        },
    },
    error::{Error, Result},
    ids::{EntityId as _, TenantId},
};

/// A row that clients can list.
pub trait Listed: Keyed + ContainerType {
    /// Which rows, in the API.
    type Filter: FilterInput;
    /// The fields by which clients can sort.
    type OrderField: OrderField;
}

/// An enum of the fields by which clients can sort the rows of a type.
pub trait OrderField: InputType + Copy + std::fmt::Debug {
    /// The sort order if the client gives none.
    const DEFAULT: Order<Self>;

    /// The column of the field.
    fn column(self) -> OrderColumn;
}

/// One term of a sort order. Rows that are equal in every term are sorted by their ids.
#[derive(Clone, Copy, Debug)]
pub struct Order<F> {
    /// The field to sort by.
    pub field: F,
    /// The direction.
    pub direction: Direction,
}

impl<F: OrderField> InputType for Order<F> {
    type RawValueType = Self;

    /// `ProjectOrder` for `ProjectOrderField`.
    fn type_name() -> Cow<'static, str> {
        let field = F::type_name();
        field
            .strip_suffix("Field")
            .unwrap_or(&field)
            .to_owned()
            .into()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        let description =
            "One term of a sort order. Rows that are equal in every term are sorted by their ids.";
        generic_input::register::<Self>(registry, description, |registry| {
            let direction =
                generic_input::field::<Direction>(registry, "direction", "The direction.");
            vec![
                generic_input::field::<F>(registry, "field", "The field to sort by."),
                MetaInputValue {
                    default_value: Some(Direction::default().to_value().to_string()),
                    ..direction
                },
            ]
        })
    }

    fn parse(value: Option<async_graphql::Value>) -> InputValueResult<Self> {
        let mut fields = Fields::<Self>::parse(value)?;
        Ok(Self {
            field: fields.take("field")?,
            direction: if fields.contains("direction") {
                fields.take("direction")?
            } else {
                Direction::default()
            },
        })
    }

    fn to_value(&self) -> async_graphql::Value {
        async_graphql::value!({
            "field": self.field.to_value(), "direction": self.direction.to_value(),
        })
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }
}

/// A column by which a list can be ordered.
#[derive(Clone, Copy, Debug)]
pub struct OrderColumn {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it can be null.
    pub nullable: bool,
}

/// Which way an order goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum)]
#[graphql(name = "OrderDirection")]
pub enum Direction {
    /// From small to great, from old to new; nulls last.
    #[default]
    Asc,
    /// From great to small, from new to old; nulls first.
    Desc,
}

/// The arguments of a connection, as every connection has them.
#[derive(Debug)]
pub struct ListArguments<E: Listed> {
    /// Rows from the start.
    pub first: Option<i32>,
    /// Only rows behind this cursor.
    pub after: Option<String>,
    /// Rows from the end.
    pub last: Option<i32>,
    /// Only rows in front of this cursor.
    pub before: Option<String>,
    /// Which rows.
    pub filter: Option<Box<E::Filter>>,
    /// In which order.
    pub order_by: Option<Vec<Order<E::OrderField>>>,
}

/// Most terms that an order may have.
const MAX_ORDER_TERMS: usize = 5;

impl<E: Listed> ListArguments<E> {
    /// Checks the arguments, before any SQL.
    pub(super) fn list(self, tenant: TenantId, scope: Option<&'static str>) -> Result<Lister<E>> {
        let (argument, size) = match (self.first, self.last) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid(
                    "last",
                    "give either first or last, not both",
                ));
            }
            (None, Some(last)) => ("last", Some(last)),
            (first, None) => ("first", first),
        };
        let size = match size.map(u32::try_from) {
            None => DEFAULT_PAGE,
            Some(Ok(size)) if size <= MAX_PAGE => size,
            Some(_) => {
                return Err(Error::invalid(
                    argument,
                    format!("must be between 0 and {MAX_PAGE}"),
                ));
            }
        };
        let order = order::<E>(self.order_by.unwrap_or_default())?;
        let stamp = stamp::<E>(tenant, &order);
        let position = |argument, cursor: Option<String>| {
            cursor
                .map(|cursor| {
                    decode(&cursor, stamp, &order)
                        .ok_or_else(|| Error::invalid(argument, "not a cursor of this list"))
                })
                .transpose()
        };
        let list = List {
            scope,
            filter: self
                .filter
                .map(|filter| filter.filter())
                .transpose()?
                .unwrap_or_default(),
            after: position("after", self.after)?,
            before: position("before", self.before)?,
            order,
            size,
            from_end: self.last.is_some(),
        };
        Ok(Lister {
            list: Arc::new(list),
            stamp,
            row: std::marker::PhantomData,
        })
    }
}

fn order<E: Listed>(mut terms: Vec<Order<E::OrderField>>) -> Result<Vec<Term>> {
    if terms.len() > MAX_ORDER_TERMS {
        return Err(Error::invalid(
            "orderBy",
            format!("at most {MAX_ORDER_TERMS} terms"),
        ));
    }
    if terms.is_empty() {
        terms.push(E::OrderField::DEFAULT);
    }
    let mut order: Vec<Term> = Vec::with_capacity(terms.len() + 1);
    for term in terms {
        let OrderColumn {
            name,
            kind,
            nullable,
        } = term.field.column();
        // A second term of the same column decides nothing.
        if order.iter().all(|earlier| earlier.column != name) {
            let descending = term.direction == Direction::Desc;
            order.push(Term {
                column: name,
                kind,
                nullable,
                descending,
            });
        }
    }
    // The id goes the way of the last term, so that one index serves both.
    let descending = order.last().is_some_and(|term| term.descending);
    order.push(Term {
        column: "id",
        kind: Kind::Uuid,
        nullable: false,
        descending,
    });
    Ok(order)
}

/// What a cursor belongs to: the tenant, the type and the order. It is a name and not a secret: a
/// forged cursor only names another position in the caller's own rows.
fn stamp<E: Listed>(tenant: TenantId, order: &[Term]) -> Uuid {
    let mut name = E::TABLE.to_owned();
    for term in order {
        name.push(if term.descending { '-' } else { '+' });
        name.push_str(term.column);
    }
    Uuid::new_v5(&tenant.uuid(), name.as_bytes())
}

/// The longest cursor that is looked at: five texts of the longest column, in base64.
const MAX_CURSOR: usize = 8 * 1024;

fn encode(stamp: Uuid, position: &Position) -> String {
    let values = position.iter().map(|value| match value {
        None => Json::Null,
        Some(Value::Uuid(id)) => json!(id.simple().to_string()),
        Some(Value::Text(text)) => json!(text),
        Some(Value::Int(number)) => json!(number),
        Some(Value::Bool(value)) => json!(value),
        Some(Value::Time(time)) => json!(time.timestamp_micros()),
        Some(Value::Date(date)) => json!(date.to_string()),
        Some(Value::Ints(_) | Value::Texts(_) | Value::Uuids(_)) => {
            unreachable!("BUG: no list is ordered by lists")
        }
    });
    let parts: Vec<Json> = std::iter::once(json!(stamp.simple().to_string()))
        .chain(values)
        .collect();
    URL_SAFE_NO_PAD.encode(Json::Array(parts).to_string())
}

fn decode(cursor: &str, stamp: Uuid, order: &[Term]) -> Option<Position> {
    if cursor.len() > MAX_CURSOR {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let parts: Vec<Json> = serde_json::from_slice(&bytes).ok()?;
    let (of, values) = parts.split_first()?;
    if of.as_str()? != stamp.simple().to_string() || values.len() != order.len() {
        return None;
    }
    values
        .iter()
        .zip(order)
        .map(|(value, term)| {
            if value.is_null() {
                return term.nullable.then_some(None);
            }
            let value = match term.kind {
                Kind::Uuid => Value::Uuid(Uuid::try_parse(value.as_str()?).ok()?),
                Kind::Text => Value::Text(value.as_str().filter(|t| !t.contains('\0'))?.to_owned()),
                Kind::Int => Value::Int(i32::try_from(value.as_i64()?).ok()?),
                Kind::Bool => Value::Bool(value.as_bool()?),
                Kind::Time => {
                    let time = DateTime::from_timestamp_micros(value.as_i64()?)?;
                    Value::Time(Moment::new(time)?.time())
                }
                Kind::Date => Value::Date(Date::read(value.as_str()?)?.0),
            };
            Some(Some(value))
        })
        .collect()
}

/// A checked list with what its cursors are stamped with.
pub(super) struct Lister<E> {
    list: Arc<List>,
    stamp: Uuid,
    row: std::marker::PhantomData<fn() -> E>,
}

/// A list, a page at a time.
pub struct Connection<E> {
    of: Of<E>,
    stamp: Uuid,
    page: Arc<Page<E>>,
}

impl<E> std::fmt::Debug for Connection<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("of", &self.of)
            .finish_non_exhaustive()
    }
}

impl<E: Listed> Connection<E> {
    pub(super) async fn load(
        loaders: &Loaders,
        parent: Option<Uuid>,
        lister: Lister<E>,
    ) -> Result<Object<Self>> {
        let of = Of::new(parent, lister.list);
        let page = loaders.load(of.clone()).await?;
        let page = page.ok_or_else(|| Error::Internal("a list without a page".into()))?;
        Ok(Self {
            of,
            stamp: lister.stamp,
            page,
        }
        .into())
    }

    fn cursor(&self, row: &E) -> String {
        encode(self.stamp, &page::position(&self.of.list.order, row))
    }

    /// Rows of the list, on all pages; one more than [`COUNT_CAP`] stands for "more".
    async fn count(&self, ctx: &Context<'_>) -> Result<u32> {
        let count = ctx.loaders().load(CountOf(self.of.clone())).await?;
        // Parents without rows are counted too, so every key has its number.
        count.ok_or_else(|| Error::Internal("a list without a count".into()))
    }
}

impl<E: OutputType> TypeName for Connection<E> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("{}Connection", E::type_name()))
    }
}

/// A list, a page at a time.
#[GraphqlObject(name_type)]
impl<E: Listed> Connection<E> {
    /// The rows of the page, each with its cursor.
    async fn edges(&self) -> Objects<Edge<E>> {
        let edge = |row: &Arc<E>| Edge {
            cursor: self.cursor(row),
            node: Arc::clone(row).into(),
        };
        self.page.rows.iter().map(edge).collect()
    }

    /// The rows of the page.
    async fn nodes(&self) -> Objects<E> {
        self.page.rows.iter().cloned().collect()
    }

    /// Where the page stands in the list.
    async fn page_info(&self) -> Object<PageInfo> {
        PageInfo {
            has_next_page: self.page.has_next,
            has_previous_page: self.page.has_previous,
            start_cursor: self.page.rows.first().map(|row| self.cursor(row)),
            end_cursor: self.page.rows.last().map(|row| self.cursor(row)),
        }
        .into()
    }

    /// Rows of the list on all its pages, counted up to 10,000. Costs one statement for all
    /// lists of a level, and nothing if it is not asked for.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u32> {
        Ok(self.count(ctx).await?.min(COUNT_CAP))
    }

    /// Whether there are more rows than `totalCount` says.
    async fn total_count_is_capped(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.count(ctx).await? > COUNT_CAP)
    }
}

/// A row of a page with its place in the list.
#[derive(Debug, SimpleObject)]
#[graphql(name_type)]
pub struct Edge<E: Listed> {
    /// The place of the row, for `after` and `before`. Belongs to this list and its order.
    pub cursor: String,
    /// The row.
    pub node: Object<E>,
}

impl<E: Listed> TypeName for Edge<E> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("{}Edge", E::type_name()))
    }
}

/// Where a page stands in its list.
#[derive(Clone, Debug, SimpleObject)]
pub struct PageInfo {
    /// Whether rows follow this page. Of a page by `last`: whether `before` was given.
    pub has_next_page: bool,
    /// Whether rows precede this page. Of a page by `first`: whether `after` was given.
    pub has_previous_page: bool,
    /// The cursor of the first row; null if the page is empty.
    pub start_cursor: Option<String>,
    /// The cursor of the last row; null if the page is empty.
    pub end_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Vec<Term> {
        let term = |column, kind, nullable| Term {
            column,
            kind,
            nullable,
            descending: true,
        };
        vec![
            term("number", Kind::Text, true),
            term("created_at", Kind::Time, false),
            term("due_on", Kind::Date, true),
            term("id", Kind::Uuid, false),
        ]
    }

    fn somewhere() -> Position {
        vec![
            Some(Value::Text("INV-1 \"ü\"".to_owned())),
            DateTime::from_timestamp_micros(1_700_000_000_123_457).map(Value::Time),
            None,
            Some(Value::Uuid(Uuid::now_v7())),
        ]
    }

    #[test]
    fn a_cursor_reads_back_to_the_microsecond() {
        let (stamp, position) = (Uuid::now_v7(), somewhere());
        assert_eq!(
            decode(&encode(stamp, &position), stamp, &terms()),
            Some(position)
        );
    }

    #[test]
    fn a_cursor_of_anything_else_is_refused() {
        let (stamp, position) = (Uuid::now_v7(), somewhere());
        let cursor = encode(stamp, &position);
        assert_eq!(
            decode(&cursor, Uuid::now_v7(), &terms()),
            None,
            "of another list"
        );
        assert_eq!(
            decode(&cursor, stamp, &terms()[1..]),
            None,
            "of another order"
        );
        assert_eq!(decode(&cursor[1..], stamp, &terms()), None, "cut");
        assert_eq!(decode("", stamp, &terms()), None, "empty");
        assert_eq!(
            decode(&"A".repeat(MAX_CURSOR + 1), stamp, &terms()),
            None,
            "too long"
        );
        let nulls = encode(stamp, &vec![None; 4]);
        assert_eq!(
            decode(&nulls, stamp, &terms()),
            None,
            "null where none can be"
        );
        let nul = encode(stamp, &vec![Some(Value::Text("\0".to_owned())); 4]);
        assert_eq!(
            decode(&nul, stamp, &terms()),
            None,
            "a text that Postgres refuses"
        );
    }
}

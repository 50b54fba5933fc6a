//! Lists as Relay connections: arguments, cursors and pages.

use std::{borrow::Cow, sync::Arc};

use async_graphql::{
    ComplexObject, Context, ContextSelectionSet, Enum, InputType, InputValueResult,
    Object as GraphqlObject, OutputType, Positioned, ServerResult, SimpleObject, TypeName,
    Value as GraphqlValue,
    parser::types::Field,
    registry::{MetaInputValue, Registry},
    resolver_utils::ContainerType,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::DateTime;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    arguments::FieldArguments,
    context::{ContextExt as _, require_readable},
    filter::FilterInput,
    generic_input::{self, Fields},
    json::{PlainFields, plain_fields},
    object::{FieldFuture, Object, Objects, null_on_error},
    scalars::{Date, Timestamp},
};
use crate::{
    db::{
        filter::{Kind, Value},
        load::Loaders,
        page::{
            self, CountOf, DEFAULT_PAGE_SIZE, List, MAX_COUNT, MAX_PAGE_SIZE, Page, PageOf,
            Position, Sortable, Term,
        },
    },
    error::{Error, Result},
    ids::{EntityId as _, TenantId},
};

/// A row type that clients can list.
pub trait Listable: Sortable + ContainerType + PlainFields {
    /// The type of the filter in the API.
    type Filter: FilterInput;
    /// The fields by which clients can sort.
    type OrderField: OrderField;
    /// The type of the list in the schema: nullable if some roles may not read the rows.
    type List: OutputType + From<Object<Connection<Self>>> + Send;
}

/// An enum of the fields by which clients can sort the rows of a type.
pub trait OrderField: InputType + Copy + std::fmt::Debug {
    /// The sort order if the client gives none.
    const DEFAULT: Order<Self>;

    /// The column of the field.
    fn column(self) -> OrderColumn;
}

/// One term of a sort order. Rows that are equal in all terms are sorted by ID.
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
            "One term of a sort order. Rows that are equal in all terms are sorted by ID.";
        generic_input::register::<Self>(registry, description, |registry| {
            let direction = generic_input::field::<Direction>(
                registry,
                "direction",
                "The direction: ascending by default.",
            );
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

/// A column by which a list can be sorted.
#[derive(Clone, Copy, Debug)]
pub struct OrderColumn {
    /// The name of the column.
    pub name: &'static str,
    /// The type of the column.
    pub kind: Kind,
    /// Whether the column can be null.
    pub nullable: bool,
}

/// The direction of a sort order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum)]
#[graphql(name = "OrderDirection")]
pub enum Direction {
    /// Ascending: smallest or oldest first, nulls last.
    #[default]
    Asc,
    /// Descending: greatest or newest first, nulls first.
    Desc,
}

/// The arguments of a connection. Every connection has the same arguments.
#[derive(Debug)]
pub struct ListArguments<E: Listable> {
    /// The number of rows from the start.
    pub first: Option<i32>,
    /// Only rows after this cursor.
    pub after: Option<String>,
    /// The number of rows from the end.
    pub last: Option<i32>,
    /// Only rows before this cursor.
    pub before: Option<String>,
    /// The filter.
    pub filter: Option<Box<E::Filter>>,
    /// The sort order.
    pub order_by: Option<Vec<Order<E::OrderField>>>,
}

/// The maximum number of terms of a sort order.
const MAX_ORDER_TERMS: usize = 5;

impl<E: Listable> ListArguments<E> {
    /// Reads the arguments of a field, as the resolvers that the engine generates do.
    fn read(ctx: &Context<'_>) -> ServerResult<Self> {
        Ok(Self {
            first: ctx.param_value("first", None)?.1,
            after: ctx.param_value("after", None)?.1,
            last: ctx.param_value("last", None)?.1,
            before: ctx.param_value("before", None)?.1,
            filter: ctx.param_value("filter", None)?.1,
            order_by: ctx.param_value("orderBy", None)?.1,
        })
    }

    /// Checks the arguments, and that the caller's role may read the rows.
    pub(super) fn check(
        self,
        ctx: &Context<'_>,
        parent_column: Option<&'static str>,
    ) -> Result<CheckedList<E>> {
        require_readable::<E>(ctx.principal().role)?;
        let (list, stamp) = self.list(ctx.principal().tenant, parent_column)?;
        let list = ctx.loaders().share(list);
        Ok(CheckedList { stamp, list })
    }

    fn list(
        self,
        tenant: TenantId,
        parent_column: Option<&'static str>,
    ) -> Result<(List, Stamp<E>)> {
        let (argument, size) = match (self.first, self.last) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("last", "must not be combined with `first`"));
            }
            (None, Some(last)) => ("last", Some(last)),
            (first, None) => ("first", first),
        };
        let size = match size.map(u32::try_from) {
            None => DEFAULT_PAGE_SIZE,
            Some(Ok(size)) if size <= MAX_PAGE_SIZE => size,
            Some(_) => {
                return Err(Error::invalid(
                    argument,
                    format!("must be between 0 and {MAX_PAGE_SIZE}"),
                ));
            }
        };
        let order = order::<E>(self.order_by.unwrap_or_default())?;
        let stamp = Stamp::<E>::new(tenant);
        let position = |argument, cursor: Option<String>| {
            cursor
                .map(|cursor| {
                    decode(&cursor, stamp.of(&order), &order)
                        .ok_or_else(|| Error::invalid(argument, "must be a cursor of this list"))
                })
                .transpose()
        };
        let list = List {
            parent_column,
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
        Ok((list, stamp))
    }
}

fn order<E: Listable>(mut terms: Vec<Order<E::OrderField>>) -> Result<Vec<Term>> {
    if terms.len() > MAX_ORDER_TERMS {
        return Err(Error::invalid(
            "orderBy",
            format!("must have at most {MAX_ORDER_TERMS} terms"),
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
        // A second term with the same column would have no effect.
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
    // The ID is sorted in the direction of the last term, so that one index serves both.
    let descending = order.last().is_some_and(|term| term.descending);
    order.push(Term {
        column: "id",
        kind: Kind::Uuid,
        nullable: false,
        descending,
    });
    Ok(order)
}

/// Identifies the list of a cursor: the tenant, the type and the sort order. The stamp is not a secret: a forged cursor
/// is only another position among the caller's own rows. The stamp is a hash, so it is computed only when a cursor is
/// read or written.
struct Stamp<E> {
    tenant: TenantId,
    row: std::marker::PhantomData<fn() -> E>,
}

impl<E> Clone for Stamp<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Stamp<E> {}

impl<E: Listable> Stamp<E> {
    fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            row: std::marker::PhantomData,
        }
    }

    /// The stamp of the list with this order.
    fn of(self, order: &[Term]) -> Uuid {
        let mut name = E::TABLE.to_owned();
        for term in order {
            name.push(if term.descending { '-' } else { '+' });
            name.push_str(term.column);
        }
        Uuid::new_v5(&self.tenant.uuid(), name.as_bytes())
    }
}

/// The maximum number of bytes of a cursor: enough for five strings of the longest sort column, in base64.
const MAX_CURSOR_LENGTH: usize = 8 * 1024;

pub(crate) fn encode(stamp: Uuid, position: &Position) -> String {
    let values = position.iter().map(|value| match value {
        None => Json::Null,
        Some(Value::Uuid(id)) => json!(id.simple().to_string()),
        Some(Value::Text(text)) => json!(text),
        Some(Value::Int(number)) => json!(number),
        Some(Value::Bool(value)) => json!(value),
        Some(Value::Time(time)) => json!(time.timestamp_micros()),
        Some(Value::Date(date)) => json!(date.to_string()),
        Some(Value::Ints(_) | Value::Texts(_) | Value::Uuids(_)) => {
            unreachable!("BUG: a sort column holds a list")
        }
    });
    let parts: Vec<Json> = std::iter::once(json!(stamp.simple().to_string()))
        .chain(values)
        .collect();
    URL_SAFE_NO_PAD.encode(Json::Array(parts).to_string())
}

pub(crate) fn decode(cursor: &str, stamp: Uuid, order: &[Term]) -> Option<Position> {
    if cursor.len() > MAX_CURSOR_LENGTH {
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
                    Value::Time(Timestamp::new(time)?.time())
                }
                Kind::Date => Value::Date(Date::read(value.as_str()?)?.0),
            };
            Some(Some(value))
        })
        .collect()
}

/// A page of a list.
pub struct Connection<E> {
    of: PageOf<E>,
    list: CheckedList<E>,
    page: Arc<Page<E>>,
}

impl<E> PlainFields for Connection<E> {}

/// A list with checked arguments, and the stamp of its cursors.
pub(super) struct CheckedList<E> {
    stamp: Stamp<E>,
    list: Arc<List>,
}

impl<E> Clone for CheckedList<E> {
    fn clone(&self) -> Self {
        Self {
            stamp: self.stamp,
            list: Arc::clone(&self.list),
        }
    }
}

impl<E: Listable> CheckedList<E> {
    /// The cursor of a row.
    fn cursor(&self, row: &E) -> Result<String> {
        let order = &self.list.order;
        Ok(encode(self.stamp.of(order), &page::position(order, row)?))
    }
}

impl<E> std::fmt::Debug for Connection<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("of", &self.of)
            .finish_non_exhaustive()
    }
}

impl<E: Listable> Connection<E> {
    pub(super) async fn load(
        loaders: &Loaders,
        parent: Option<Uuid>,
        list: CheckedList<E>,
    ) -> Result<Object<Self>> {
        let of = PageOf::new(parent, Arc::clone(&list.list));
        let page = loaders.load(of.clone()).await?;
        let page = page.ok_or_else(|| Error::Internal("the loader returned no page".into()))?;
        loaders.keep(&page.rows).await;
        Ok(Self { of, list, page }.into())
    }

    /// The number of rows of the list on all pages; [`MAX_COUNT`] + 1 means "more than the cap".
    async fn count(&self, ctx: &Context<'_>) -> Result<u32> {
        let count = ctx.loaders().load(CountOf(self.of.clone())).await?;
        // The loader also returns a count for parents without rows.
        count.ok_or_else(|| Error::Internal("the loader returned no count".into()))
    }
}

/// Resolves a list of an object: the rows whose column holds the ID of the object. Reads the arguments of the list once
/// for all objects.
#[must_use]
pub fn resolve_list<'a, T: ContainerType, E: Listable>(
    (column, parent): (&'static str, Uuid),
    ctx: ContextSelectionSet<'a>,
    field: &'a Positioned<Field>,
) -> FieldFuture<'a> {
    Box::pin(async move {
        let ctx = ctx.with_field(field);
        let value = resolve_connection::<E>(column, parent, &ctx).await;
        null_on_error::<T>(&ctx, value.map(Some))
    })
}

async fn resolve_connection<E: Listable>(
    column: &'static str,
    parent: Uuid,
    ctx: &Context<'_>,
) -> ServerResult<GraphqlValue> {
    let to_server_error =
        |error: Error| async_graphql::Error::from(error).into_server_error(ctx.item.pos);
    let list = ctx
        .data_unchecked::<FieldArguments>()
        .read_once(ctx, column, || {
            let arguments = ListArguments::<E>::read(ctx)?;
            arguments.check(ctx, Some(column)).map_err(to_server_error)
        })?;
    let connection = Connection::load(ctx.loaders(), Some(parent), list).await;
    let connection = connection.map_err(|error| ctx.set_error_path(to_server_error(error)))?;
    let selection = ctx.with_selection_set(&ctx.item.node.selection_set);
    let list = E::List::from(connection);
    list.resolve(&selection, ctx.item).await
}

impl<E: OutputType> TypeName for Connection<E> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("{}Connection", E::type_name()))
    }
}

/// A page of a list: its rows, its position in the list, and the total number of rows.
#[GraphqlObject(name_type)]
impl<E: Listable> Connection<E> {
    /// The rows of the page, each with its cursor.
    async fn edges(&self) -> Objects<Edge<E>> {
        let edge = |row: &Arc<E>| Edge {
            list: self.list.clone(),
            row: Arc::clone(row),
        };
        self.page.rows.iter().map(edge).collect()
    }

    /// The rows of the page, without cursors.
    async fn nodes(&self) -> Objects<E> {
        self.page.rows.iter().cloned().collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self) -> Object<PageInfo> {
        let cursor = |row: Option<&Arc<E>>| {
            let (list, row) = (self.list.clone(), Arc::clone(row?));
            Some(LazyCursor(Box::new(move || list.cursor(&row))))
        };
        PageInfo {
            has_next_page: self.page.has_next,
            has_previous_page: self.page.has_previous,
            start: cursor(self.page.rows.first()),
            end: cursor(self.page.rows.last()),
        }
        .into()
    }

    /// The number of rows on all pages, counted up to 10,000. Selecting this field adds one SQL statement, which counts
    /// all lists of the same level.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u32> {
        Ok(self.count(ctx).await?.min(MAX_COUNT))
    }

    /// Whether the list has more than 10,000 rows. If so, `totalCount` is 10,000.
    async fn total_count_is_capped(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.count(ctx).await? > MAX_COUNT)
    }
}

/// A row of a page, together with its cursor.
pub struct Edge<E> {
    list: CheckedList<E>,
    row: Arc<E>,
}

impl<E> PlainFields for Edge<E> {}

impl<E: Listable> TypeName for Edge<E> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("{}Edge", E::type_name()))
    }
}

/// A row of a page, together with its cursor.
#[GraphqlObject(name_type)]
impl<E: Listable> Edge<E> {
    /// The cursor of the row, for the arguments `after` and `before`. Valid for this list and sort order only.
    #[expect(clippy::unused_async, reason = "resolvers are async")]
    async fn cursor(&self) -> Result<String> {
        self.list.cursor(&self.row)
    }

    /// The row itself.
    async fn node(&self) -> Object<E> {
        Arc::clone(&self.row).into()
    }
}

/// The position of a page in its list.
#[derive(Debug, SimpleObject)]
#[graphql(complex)]
pub struct PageInfo {
    /// Whether rows follow this page. If the page was requested with `last`, whether `before` was given.
    pub has_next_page: bool,
    /// Whether rows precede this page. If the page was requested with `first`, whether `after` was given.
    pub has_previous_page: bool,
    #[graphql(skip)]
    start: Option<LazyCursor>,
    #[graphql(skip)]
    end: Option<LazyCursor>,
}

plain_fields!(PageInfo {
    has_next_page,
    has_previous_page
});

#[ComplexObject]
impl PageInfo {
    /// The cursor of the first row; null if the page is empty.
    #[expect(clippy::unused_async, reason = "resolvers are async")]
    async fn start_cursor(&self) -> Result<Option<String>> {
        self.start.as_ref().map(|cursor| cursor.0()).transpose()
    }

    /// The cursor of the last row; null if the page is empty.
    #[expect(clippy::unused_async, reason = "resolvers are async")]
    async fn end_cursor(&self) -> Result<Option<String>> {
        self.end.as_ref().map(|cursor| cursor.0()).transpose()
    }
}

/// A cursor that is computed only if the client selects it, because its columns are fetched only then.
struct LazyCursor(Box<dyn Fn() -> Result<String> + Send + Sync>);

impl std::fmt::Debug for LazyCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LazyCursor")
    }
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
    fn a_cursor_keeps_its_values_to_the_microsecond() {
        let (stamp, position) = (Uuid::now_v7(), somewhere());
        assert_eq!(
            decode(&encode(stamp, &position), stamp, &terms()),
            Some(position)
        );
    }

    #[test]
    fn a_cursor_of_another_list_or_a_malformed_one_is_rejected() {
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
            decode(&"A".repeat(MAX_CURSOR_LENGTH + 1), stamp, &terms()),
            None,
            "too long"
        );
        let nulls = encode(stamp, &vec![None; 4]);
        assert_eq!(
            decode(&nulls, stamp, &terms()),
            None,
            "null in a column that is not nullable"
        );
        let nul = encode(stamp, &vec![Some(Value::Text("\0".to_owned())); 4]);
        assert_eq!(
            decode(&nul, stamp, &terms()),
            None,
            "a string that Postgres rejects"
        );
    }
}
